"""figures/report.html: one page, readable offline, of what was run, on what, what it showed and what it answers."""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from stlm_kit.errors import KitError
from stlm_kit.ledger import is_number
from stlm_kit.notebook_files import Chapter, chapters, notebooks_dir
from stlm_kit.paths import atomic_write, project_dir
from stlm_kit.provenance import describe_machine, duration, now, source_hash, versions
from stlm_kit.report.executed_notebook import Answer, Figure, answers, figures, of_plot, plain, verdicts
from stlm_kit.report.ledger_summary import ledger_summary
from stlm_kit.report.own_studies import Scores, homes, own_studies, scores
from stlm_kit.report.pages import html_page
from stlm_kit.reproduce.request import Request, chapter_run
from stlm_kit.reproduce.rows import row
from stlm_kit.reproduce.run import FINISHED, Run, read_record
from stlm_kit.reproduce.study_file import load_study, study_names
from stlm_kit.studies.memory.comparison import compare_or_why_not

STATES = {
    "done": "done",
    "to be checked": "made by other code, to be checked",
    "stale": "made by other code",
    "failed": "failed",
    "interrupted": "interrupted",
    "running": "running now",
    "missing": "not run yet",
    "out_of_memory": "out of memory",
}
TOLD = (  # (verdict, heading, what its last column holds) of the claims that the page lists
    ("contradicted", "Contradicted, and what would be right", "What would be right"),
    ("underdetermined", "Underdetermined, and the readings that differ", "Which reading holds"),
)


@dataclass
class Section:
    """One chapter on the page."""

    name: str
    number: str
    title: str
    promise: str
    state: str
    seconds: float | None = None
    date: str = ""
    profile: str = ""
    given: str = ""
    sentence: str = ""
    page: str = ""  # links, relative to the report
    notebook: str = ""
    log: str = ""
    checks: list[str] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    @property
    def label(self) -> str:
        return STATES[self.state]

    @property
    def time(self) -> str:
        return "" if self.seconds is None else duration(self.seconds)


@dataclass
class StudyTable:
    """The runs of one study on the page."""

    name: str
    title: str
    columns: list[str]
    rows: list[dict]
    shared: dict[str, float]  # numbers that are the same in every run
    figures: list[Figure]
    sentences: list[str]  # what its comparison says
    scores: Scores | None = None  # of a study of one's own


def write_reports(runs: list[Run], request: Request, folder: Path | None = None) -> list[Path]:
    """The report of these runs, in `folder`; without one, each study of one's own has a report of its own, in
    <study>-report/ of the working folder. Gives the pages' paths."""
    return [write_report(group, request, home) for home, group in homes(runs, request, folder).items()]


def write_report(runs: list[Run], request: Request | None = None, folder: Path | None = None) -> Path:
    """Write report.html and the chapters' figures (<chapter>-<n>.png) into `folder` (default: figures/ of the project).

    runs: what was just asked for; the course's other chapters are shown as they were last run, and the ledger, but not
    where all runs are of studies of one's own. Gives the page's path.
    """
    request = request or Request()
    own = own_studies(request)
    course = not runs or any(run.study not in own for run in runs)
    folder = Path(folder or project_dir() / "figures").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    asked = {run.name: run for run in runs if run.is_chapter}
    sections = []
    for chapter in chapters(request.notebooks or notebooks_dir()) if course else []:
        try:
            sections.append(_section(chapter, asked.get(chapter.name) or chapter_run(chapter.path), folder))
        except KitError as error:  # one that was not asked for: what was run is shown all the same
            print(f"stlm: The report leaves out {chapter.name}: {error}", file=sys.stderr)
    for section in sections:
        _write_figures(section, folder)
    studies = sorted({run.study for run in runs if not run.is_chapter})
    tables = [_study_table(name, [run for run in runs if run.study == name], folder) for name in studies]
    for table in tables:
        if table.name in own:
            file, study = own[table.name]
            table.title, table.scores = study.title, scores(file, request)
    return atomic_write(folder / "report.html", render(sections, tables, ledger_summary() if course else None))


def render(sections: list[Section], tables: list[StudyTable], ledger: dict | None) -> str:
    """The page of these sections, all CSS and images inside it. ledger: its summary; without one it is left out."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("stlm_kit.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["readable"] = readable
    done = [section for section in sections if section.state == "done"]
    return environment.get_template("report.html.j2").render(
        sections=sections,
        tables=tables,
        done=done,
        failed=[section for section in sections if section.state == "failed"],
        total=duration(sum(section.seconds or 0 for section in done)),
        n_checks=sum(len(section.checks) for section in done),
        verdicts=Counter(answer.verdict for section in done for answer in section.answers if answer.verdict),
        ledger=ledger,
        told=TOLD,
        machine=describe_machine(),
        versions=versions(),
        source=source_hash()[:10],
        date=now().replace("T", " ").removesuffix("+00:00") + " UTC",
    )


def _section(chapter: Chapter, run: Run, report: Path) -> Section:
    """What the page says of one chapter: the run asked for, or an older one where that is all there is."""
    state = run.state()
    folder = run.kept
    record = read_record(folder)
    section = Section(
        name=chapter.name,
        number=chapter.number,
        title=plain(chapter.title.removeprefix(chapter.number).lstrip(" ·:.-")),
        promise=plain(chapter.promise),
        state=state,
        seconds=record.get("seconds"),
        date=(record.get("ended") or "")[:10],
        profile=run.profile,
        given=", ".join(f"{name}={value}" for name, value in run.parameters.items() if name != "profile"),
    )
    if state == "failed":
        place = f"Cell {record['cell']}: " if record.get("cell") else ""
        section.sentence = place + (record.get("sentence") or "it stopped without a word; see its log.")
    notebook = folder / chapter.path.name
    if state in ("done", "to be checked", "stale") and notebook.is_file():
        section.checks, section.answers, section.figures = verdicts(notebook), answers(folder), figures(notebook)
    elif state == "failed":
        notebook = notebook.with_suffix(".failed.ipynb")
    if state in ("done", "to be checked", "stale", "failed") and notebook.is_file():
        section.notebook = _link(notebook, report)
        section.page = _link(html_page(notebook), report)
    if (folder / "log.txt").is_file():
        section.log = _link(folder / "log.txt", report)
    return section


def _study_table(name: str, runs: list[Run], report: Path) -> StudyTable:
    """The result rows of a study's runs, one line a run; the columns are whatever numbers the rows hold."""
    lines, pictures = [], []
    for run in runs:
        state = run.state()
        usable = state in FINISHED or state == "to be checked"
        found = (row(run.kept) if usable else None) or {}
        numbers = {key: value for key, value in found.get("metrics", {}).items() if is_number(value)}
        line = {"name": run.name, "state": state, "label": STATES[state], "time": "", "link": "", "numbers": numbers}
        if found.get("seconds") is not None:
            line["time"] = duration(found["seconds"])
        executed = run.kept / run.notebook.name
        if usable and executed.is_file():
            line["link"] = _link(html_page(executed), report)
            pictures += [replace(figure, caption=run.name) for figure in figures(executed)]
        lines.append(line)
    names = list(dict.fromkeys(key for line in lines for key in line["numbers"]))
    values = {name: {line["numbers"].get(name) for line in lines} for name in names}
    shared = {name: found.pop() for name, found in values.items() if len(found) == 1 and len(lines) > 1}
    title = load_study(name).title if name in study_names() else name
    compared, sentences = _compared(name, runs[0].profile)
    columns = [name for name in names if name not in shared]
    return StudyTable(name, title, columns, lines, shared, compared + pictures, sentences)


def _compared(name: str, profile: str) -> tuple[list[Figure], list[str]]:
    """The figures and sentences of a study's comparison; none for a study that measures no memory."""
    found, said = compare_or_why_not(name, profile)
    if found is None:
        return [], said
    pictures = [of_plot(drawn, f"all runs: {caption}") for caption, drawn in found.figures().items()]
    return pictures, found.sentences()


def readable(value: float) -> str:
    """A number for a table: whole ones with their thousands apart, others with as many digits as a reader needs."""
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.2e}"


def _write_figures(section: Section, folder: Path) -> None:
    """figures/<chapter>-<n>.png, without what an earlier run left over. A chapter that did not run keeps its own."""
    if section.state not in FINISHED:
        return
    names = {f"{section.name}-{number}.png": figure for number, figure in enumerate(section.figures, 1)}
    for name, figure in names.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != figure.png:
            atomic_write(path, figure.png)
    for left_over in folder.glob(f"{section.name}-*.png"):
        if left_over.name not in names:
            left_over.unlink()


def _link(path: Path | None, folder: Path) -> str:
    """A relative link from the report to a file, so that the project can be moved; "" for no file."""
    return "" if path is None else quote(Path(os.path.relpath(path, folder)).as_posix())
