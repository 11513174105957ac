"""A study of one's own on the page: its results over the grid as a table and a picture. Its report is its own as well.

The kit's studies and chapters are reported in figures/ of the project, with the course and the ledger. A study of one's
own has a page of its own, in the folder where one works, and no chapter or published claim on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from stlm_kit.errors import KitError
from stlm_kit.paths import project_dir
from stlm_kit.report.executed_notebook import Figure, of_plot
from stlm_kit.reproduce.request import Request
from stlm_kit.reproduce.run import Run
from stlm_kit.reproduce.study_file import Study, load_study
from stlm_kit.tables.rows import gather
from stlm_kit.tables.table import tabulate
from stlm_kit.tables.text import Cells, cells


@dataclass
class Scores:
    """What `stlm results` says of a study."""

    tables: list[Cells] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)


def own_studies(request: Request) -> dict[str, tuple[str, Study]]:
    """{name: (as it was asked for, study)} of the studies of one's own among what was asked for."""
    files = {name: load_study(name) for name in request.names if name.endswith(".yaml")}
    return {study.name: (file, study) for file, study in files.items() if study.is_own}


def homes(runs: list[Run], request: Request, folder: Path | None) -> dict[Path, list[Run]]:
    """{folder of a report: its runs}: a folder that was given takes all; else each study of one's own has its own."""
    if folder is not None:
        return {Path(folder).absolute(): runs}
    own, found = own_studies(request), {}
    for run in runs:
        home = Path.cwd() / f"{run.study}-report" if run.study in own else project_dir() / "figures"
        found.setdefault(home.absolute(), []).append(run)
    return found


def scores(file: str, request: Request) -> Scores:
    """The results so far of a study that was asked for; a note that says why where there are none."""
    from stlm_kit.plots import estimates

    try:
        found = gather([file], request.profile, given=request.parameters)
        table = tabulate(found.samples)
    except KitError as error:
        return Scores(notes=[str(error)])
    drawn = estimates(table.panels, ", ".join(table.by))
    picture = of_plot(drawn, "all runs: means, 95 % intervals, and each run")
    return Scores(cells(table), [*table.notes, *found.notes], [picture])
