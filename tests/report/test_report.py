"""The report: complete in itself, honest about what failed, and pointing at what ran."""

import base64
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest

from stlm_kit import ledger
from stlm_kit.provenance import now
from stlm_kit.report import ledger_summary as ledger_page
from stlm_kit.report.executed_notebook import answers, figures, plain, verdicts
from stlm_kit.report.report import readable, write_report, write_reports
from stlm_kit.reproduce.request import Request, plan
from stlm_kit.reproduce.run import Run
from stlm_kit.reproduce.run_hash import identity

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
LEDGER = "mem.params.total · exact\n  the model has this many\n  published   28,941,393 parameters\n"


def stream(text: str):
    return nbformat.v4.new_output("stream", text=text)


WORDS = 'A pixel, <small> & "black"'


def picture():
    data = {"image/png": PIXEL, "text/plain": "<Figure>"}
    return nbformat.v4.new_output("display_data", data, metadata={"image/png": {"alt": WORDS}})


def executed(course, run: Run, status: str = "done", **record) -> Run:
    """Lay out a run as the runner leaves it, with an output of every kind that the report looks at."""
    run.folder.mkdir(parents=True)
    notebook = nbformat.read(run.notebook, as_version=4)
    checked = course.code("checks.same(...)", "nbval-check-output")
    checked.outputs = [stream("same: both <ways> & more (exactly)\nother words\n" + LEDGER + "shows: a trend\n")]
    unchecked = course.code("print(...)")
    unchecked.outputs = [stream("0.123456\n"), picture()]
    notebook.cells += [checked, course.prose("## 1. The *loss*"), unchecked]
    nbformat.write(notebook, run.executed if status == "done" else run.executed.with_suffix(".failed.ipynb"))
    run.write_record(
        name=run.name, parameters=run.parameters, status=status, seconds=61.4, ended="2024-05-06T07:08:09", **record
    )
    (run.folder / "log.txt").write_text("a log")
    answer = {"id": "mem.params.total", "found": 28941393, "by": None, "missing": None, "how": "counted", "time": "t"}
    (run.folder / "ledger").mkdir()
    (run.folder / "ledger" / "mem.params.total.json").write_text(json.dumps(answer))
    return run


@pytest.fixture
def page(course, tmp_path):
    """Chapters done, failed and missing, and the report over them."""
    course.chapter("00_done", "1", title="# 00 · The <first>\n\nA **promise** with `code`.")
    course.chapter("01_failed", "1", title="# 01 · The second\n\nWords.")
    course.chapter("02_missing", "1", title="# 02 · The third\n\nWords.")
    runs = plan(Request(notebooks=course.folder))
    executed(course, runs[0])
    executed(course, runs[1], status="failed", cell=4, sentence="ValueError: <script>alert(1)</script>")
    return write_report(runs, Request(notebooks=course.folder), tmp_path / "the figures")


class References(HTMLParser):
    """Everything that a page makes a browser fetch or follow."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.found += [(name, value) for name, value in attributes if name in ("src", "href", "srcset", "data")]


class Images(HTMLParser):
    """The attributes of every image of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[dict] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found += [dict(attributes)] if tag == "img" else []


def test_the_page_is_complete_in_itself(page):
    text = page.read_text()
    references = References(text)
    for name, value in references.found:
        assert value.startswith(("data:image/png;base64,", "#")) or (name == "href" and "://" not in value), value
    assert "script" not in references.tags and "link" not in references.tags
    assert not re.search(r"https?://|url\(|@import", text)


def test_links_lead_to_files(page):
    links = [
        value for name, value in References(page.read_text()).found if name == "href" and not value.startswith("#")
    ]
    assert len(links) == 7  # page, notebook and log of the two chapters that ran, and a figure
    for link in links:
        assert (page.parent / unquote(link)).is_file(), link


def test_what_it_says(page):
    text = page.read_text()
    assert "1 of 3 chapters ran in 1 min 01 s, and 2 checks passed" in text
    assert "The &lt;first&gt;" in text and "A promise with code." in text
    assert "same: both &lt;ways&gt; &amp; more (exactly)" in text and "shows: a trend" in text
    assert "0.123456" not in text  # not a verdict
    assert "28,941,393 parameters" in text and "exact" in text
    assert "Cell 4: ValueError: &lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "stlm reproduce 02" in text and "not run yet" in text
    assert "torch 2." in text


def test_figures_say_in_words_what_they_show(page):
    [image] = Images(page.read_text()).found
    assert image["alt"] == WORDS


def test_a_picture_without_words_is_named_as_such(course):
    cell = course.code("show()")
    cell.outputs = [nbformat.v4.new_output("display_data", {"image/png": PIXEL})]
    [figure] = figures(course.chapter("00_a", course.prose("## Mine"), cell))
    assert figure.alt == "Picture without a description, under the heading: Mine"


def test_figures_are_files_too(page):
    assert (page.parent / "00_done-1.png").read_bytes() == base64.b64decode(PIXEL)
    assert not list(page.parent.glob("01_*"))


def test_figures_of_an_earlier_run_go(course, page):
    left_over = page.parent / "00_done-2.png"
    left_over.write_bytes(b"old")
    write_report(plan(Request(notebooks=course.folder)), Request(notebooks=course.folder), page.parent)
    assert not left_over.exists() and (page.parent / "00_done-1.png").is_file()


def test_what_other_code_made_is_marked(course, page):
    course.chapter("00_done", "2", title="# 00 · The first\n\nWords.")
    write_report(plan(Request(notebooks=course.folder)), Request(notebooks=course.folder), page.parent)
    assert "made by other code" in page.read_text()


def test_studies_are_tables(course, tmp_path):
    runs = plan(Request(["memory"]))
    run = executed(course, runs[0], identity=identity(runs[0].notebook, runs[0].parameters), study="memory")
    (run.folder / "row.json").write_text(json.dumps({"perplexity": 12.5, "model_parameters": 1016960, "device": "cpu"}))
    text = write_report(runs, Request(["memory"]), tmp_path / "figures").read_text()
    assert f"1 of {len(runs)} runs of" in text and "12.500" in text and "1,016,960" in text
    assert text.count("not run yet") >= len(runs) - 1


def test_a_study_of_ones_own_has_a_report_of_its_own(course, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "memory.yaml"
    file.write_text(
        "{source: memory, title: Two sizes, citation: me, runs: [{name: 'b{batch_size}-s{seed}', grid: {batch_size: "
        "[2, 4], seed: [0, 1]}, parameters: {corpus: sotu}, profiles: {laptop: {}}}]}"
    )
    request = Request([str(file), "memory"])
    runs = plan(request)
    for run, score in zip(runs, (2.0, 2.2, 3.0), strict=False):
        done = executed(course, run, identity=identity(run.notebook, run.parameters), study=run.study)
        done.write_record(hash=run.hash, profile="laptop", labels=run.labels, machine={"cores": 2}, ended=now())
        (done.folder / "row.json").write_text(json.dumps({"bits_per_byte": score, "device": "cpu"}))
    monkeypatch.setattr("stlm_kit.report.own_studies.project_dir", lambda: tmp_path / "project")
    own, published = (page.read_text() for page in write_reports(runs, request))
    assert own == (tmp_path / "my-memory-report" / "report.html").read_text()
    assert published == (tmp_path / "project" / "figures" / "report.html").read_text()
    assert "Two sizes" in own and "3 of 4 runs of" in own and "bits per byte ± 95 %" in own
    assert re.search(r"2\.1 ± 1\.3</td>", own) and "missing 1 of 4 runs: b4-s1" in own
    assert "The ledger" not in own and "Chapter" not in own
    assert "The ledger" in published and "Two sizes" not in published


def test_the_ledger_is_counted_by_source_and_what_does_not_stand_is_told(page):
    text = page.read_text()
    for claim_id in ("mem.embed.tied", "stlm.intro.phi3mini_params", "poster.size.compact", "stlm.t2.around_chance"):
        claim = ledger.find_claim(claim_id)
        assert f'<span class="id">{claim_id}</span>' in text, claim_id
        for words in (claim.reading, *claim.quotes):
            assert html.escape(words, quote=False) in text.replace("&#34;", '"').replace("&#39;", "'"), words
    summary = ledger_page.ledger_summary()
    for source in ledger.SOURCES:
        assert sum(summary["counts"][source].values()) == len(ledger.load_claims(source))
        for verdict, claims in summary["told"].items():
            assert len(claims[source]) == summary["counts"][source].get(verdict, 0)


def test_the_ledger_is_computed_again_only_when_something_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("STLM_CACHE", str(tmp_path / "cache"))
    computed = []
    one = [ledger.row(ledger.find_claim("mem.embed.tied"), {"found": False, "how": ""})]
    monkeypatch.setattr(ledger, "rows", lambda: computed.append(1) or one)
    first = ledger_page.ledger_summary()
    assert ledger_page.ledger_summary() == first and len(computed) == 1
    ledger.record("mem.params.total", 28941393)
    ledger_page.ledger_summary()
    assert len(computed) == 2
    ledger.record("mem.params.total", 28941393)  # the same answer, later
    ledger_page.ledger_summary()
    assert len(computed) == 2
    (tmp_path / "cache" / "ledger-summary.json").write_text('{"key":')
    assert ledger_page.ledger_summary() == first and len(computed) == 3


def test_reading_an_executed_notebook(course, page):
    [run, *_] = plan(Request(notebooks=course.folder))
    assert verdicts(run.executed) == ["same: both <ways> & more (exactly)", "shows: a trend"]
    assert [(figure.caption, figure.alt) for figure in figures(run.executed)] == [("1. The loss", WORDS)]
    [answer] = answers(run.folder)
    assert (answer.id, answer.verdict, answer.found) == ("mem.params.total", "exact", "28,941,393 parameters")


def test_an_answer_of_another_course_is_shown_as_it_is(tmp_path):
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "theirs.json").write_text('{"id": "theirs.claim", "found": 3, "how": ""}')
    (tmp_path / "ledger" / "half.json").write_text('{"id":')
    assert [(answer.id, answer.found) for answer in answers(tmp_path)] == [("theirs.claim", "3")]


@pytest.mark.parametrize(
    ("markdown", "text"),
    [("**n_heads** and `d_ff`", "n_heads and d_ff"), ("a [link](http://x.y)", "a link"), ("*soft* _too_", "soft too")],
)
def test_plain(markdown, text):
    assert plain(markdown) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1016960, "1,016,960"), (12345.6, "12,346"), (736.39, "736.4"), (2.5291, "2.529"), (0.0002, "2.00e-04")],
)
def test_readable(value, text):
    assert readable(value) == text


def test_the_template_is_part_of_the_package():
    import stlm_kit.report

    assert Path(stlm_kit.report.__file__).with_name("report.html.j2").is_file()
