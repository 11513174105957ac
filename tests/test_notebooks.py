"""Every notebook of the course keeps the limits of a chapter, and is committed as it ran."""

import ast
import math
import re
import statistics
from pathlib import Path

import nbformat
import pytest

from stlm_kit import checks, ledger
from stlm_kit.errors import UsageError
from stlm_kit.ledger.guesses import QUESTION
from stlm_kit.reproduce import parameters

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
# run.ipynb is what the runner executes for one run of a study: parametrised like a chapter, but none itself.
CHAPTERS = sorted(path for path in NOTEBOOKS.glob("*.ipynb") if path.name != "run.ipynb")
ALL = sorted(NOTEBOOKS.glob("*.ipynb"))

STANZAS, CELLS, WIDGETS, CLAIMS, CHECKED, FIGURE_BYTES = 6, 60, 2, 6, 5, 80_000
LINES, CELL_LINES, PICTURE_LINES = 300, 15, 25  # of code: in a chapter, in a cell, in a cell that ends in a picture
PREFIXES = sorted({claim.id.split(".")[0] for claim in ledger.load_claims()})
RAW_FLOAT = r"(?<![\d.])\d{1,3}\.\d{5,}|\d\.\d+e[+-]\d\d"  # 1910.02054 is a paper


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def tagged(cell: nbformat.NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def markdown(path: Path) -> str:
    return "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


def lines(source: str) -> int:
    """Lines of code: neither blank nor a comment alone."""
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in source.splitlines())


def text_of(cell: nbformat.NotebookNode) -> str:
    """What a cell printed, and the text of what it ended in."""
    parts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "".join("".join(part) for part in parts)


def is_a_picture(cell: nbformat.NotebookNode) -> bool:
    """Whether a code cell ends in a plot or a widget, which may take many lines of arguments."""
    last = ast.parse(cell.source).body[-1:]
    return any(isinstance(node, ast.Expr) and ast.unparse(node).startswith(("plots.", "widgets.")) for node in last)


chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
notebook = pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)


def test_there_are_chapters():
    assert CHAPTERS


@notebook
def test_it_is_a_plain_notebook_with_cell_ids_that_any_python_kernel_runs(path):
    book = read(path)
    assert (book.nbformat, book.nbformat_minor) >= (4, 5)
    assert len({cell.id for cell in book.cells}) == len(book.cells)
    assert book.metadata.kernelspec.name == "python3"
    assert "jupytext" not in book.metadata


@notebook
def test_its_parameters_are_declared_in_the_vocabulary_and_validated_next(path):
    names = parameters.declared(path)
    seed = "settings" if path.name == "run.ipynb" else "seed"  # a run's settings hold its seed
    assert {"profile", seed} <= set(names), f"the cell tagged `parameters` declares profile and {seed}"
    cells = code_cells(path)
    place = next(i for i, cell in enumerate(cells) if tagged(cell, "parameters"))
    assert re.search(r"checks\.parameters\(", cells[place + 1].source), "the next code cell validates them"
    values: dict = {}
    exec(cells[place].source, values)
    parameters.check({name: values[name] for name in names})


@chapter
def test_limits_of_a_chapter(path):
    cells, text = code_cells(path), markdown(path)
    headings = re.findall(r"^## (.*)", text, re.MULTILINE)
    stanzas = [heading for heading in headings if re.match(r"\d", heading)]
    code = "\n".join(cell.source for cell in cells)
    assert 1 <= len(stanzas) <= STANZAS
    assert len(read(path).cells) <= CELLS
    assert len(re.findall(r"\bwidgets\.shell\(", code)) <= WIDGETS
    assert len(re.findall(r"\bchecks\.ledger\(", code)) <= CLAIMS
    assert sum(lines(cell.source) for cell in cells) <= LINES
    for cell in cells:
        if not tagged(cell, "parameters"):
            limit = PICTURE_LINES if is_a_picture(cell) else CELL_LINES
            assert lines(cell.source) <= limit, f"{lines(cell.source)} lines of code: {cell.source}"
    assert 2 <= statistics.median(lines(cell.source) for cell in cells) <= 8


def test_a_picture_is_the_last_thing_that_a_cell_does():
    for source, ends in (
        ("rows = load()\nplots.losses(\n    rows,\n)", True),
        ("widgets.shell(plots.lines)", True),
        ("plots.losses(rows)\nprint(rows)", False),
        ("for row in rows:\n    plots.losses(row)", False),
        ("", False),
    ):
        assert is_a_picture(nbformat.v4.new_code_cell(source)) is ends, source


@chapter
def test_it_opens_with_a_promise_and_ends_with_exercises_and_reading(path):
    cells, text = read(path).cells, markdown(path)
    assert re.match(r"# \d\d · .+", cells[0].source)
    assert "You will be able to" in cells[0].source
    assert re.search(r"\d+ minutes", cells[0].source) and re.search(r"\d+ (seconds|s)\b", cells[0].source)
    for heading in ("## Ledger", "## Exercises", "## What to read next"):
        assert heading in text


@notebook
def test_it_was_executed_in_order_without_an_error(path):
    cells = [cell for cell in code_cells(path) if cell.source.strip()]
    if path.name == "run.ipynb":  # it has nothing to say before a run gives it parameters
        return
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "error", output.get("evalue")
            assert output.get("name") != "stderr", f"a warning was stored: {output.get('text')}"


@chapter
def test_its_verdicts_are_compared_and_read_the_same_everywhere(path):
    checked = [cell for cell in code_cells(path) if tagged(cell, "nbval-check-output")]
    assert len(checked) >= CHECKED
    for cell in checked:
        text = text_of(cell)
        assert text.strip(), f"a checked cell prints nothing: {cell.source}"
        assert not re.search(RAW_FLOAT, text), f"a raw float is compared: {text}"
    for cell in code_cells(path):
        if re.search(r"^checks\.(same|within|shows|ledger)\(", cell.source, re.MULTILINE):
            assert tagged(cell, "nbval-check-output"), f"this cell prints a verdict and is not compared: {cell.source}"


@notebook
def test_no_path_of_a_machine_or_of_the_repository_is_in_it(path):
    book = nbformat.writes(read(path))
    for pattern in (r"/home/\w", r"/root/", r"/tmp/", r"/Users/\w", r"[A-Z]:\\\\", r"\.\./", r"\.venv"):
        assert not re.search(pattern, book), pattern


def claims_named(text: str) -> set[str]:
    """Every claim id between quotes or backticks."""
    return set(re.findall(rf"""["'`]((?:{"|".join(PREFIXES)})\.[\w.]*\w)["'`]""", text))


@notebook
def test_the_ledger_knows_its_claims(path):
    code = "\n".join(cell.source for cell in code_cells(path))
    told = re.findall(r"""checks\.(?:guess|guessed|ledger|reveal|verdict)\(\s*["']([^"']+)["']""", code)
    for claim_id in {*told, *claims_named(code), *claims_named(markdown(path))}:
        if QUESTION.fullmatch(claim_id):  # the chapter's own
            assert claim_id.startswith(f"ch{path.name[:2]}"), claim_id
        else:
            ledger.find_claim(claim_id)  # its error is the sentence


def test_a_claim_that_the_ledger_lacks_would_be_noticed():
    for text in ('checks.ledger("mem.params.totl", 1)', "`mem.params.totl`", "given('mem.params.totl')"):
        [claim_id] = claims_named(text)
        with pytest.raises(UsageError, match=r"no claim 'mem\.params\.totl'.*'mem\.params\.total'"):
            ledger.find_claim(claim_id)
    assert not claims_named("`members.py`, `stlm ledger` and poster.ppl without quotes")


@notebook
def test_the_verdicts_it_shows_are_those_of_the_ledger(path, whole_ledger):
    """What the kit computes anew must not disagree with a stored page; what only a run answers may."""
    shown = [line for cell in code_cells(path) for line in text_of(cell).splitlines() if " · " in line]
    for claim_id, verdict in (line.split(" · ", 1) for line in shown if claims_named(f"`{line.split(' · ')[0]}`")):
        claim = ledger.find_claim(claim_id)
        ready = ledger.computed(claim)
        if ready is not None and ready.get("by") != "cited":
            found = whole_ledger[claim_id]
            assert verdict == found, f"{path.name} shows {claim_id} as {verdict}, and the ledger has {found}."


@pytest.fixture(scope="module")
def whole_ledger(tmp_path_factory) -> dict[str, str]:
    """{claim id: verdict} of the committed evidence alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STLM_RUNS", str(tmp_path_factory.mktemp("runs")))
        return {row["id"]: row["verdict"] for row in ledger.rows()}


@chapter
def test_its_pictures_are_small(path):
    for cell in code_cells(path):
        for output in cell.outputs:
            png = output.get("data", {}).get("image/png", "")
            assert len(png) * 3 // 4 < FIGURE_BYTES, cell.source


@chapter
def test_its_pictures_say_in_words_what_they_show(path):
    for cell in code_cells(path):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                words = output.metadata.get("image/png", {}).get("alt", "")
                assert len(words) >= 40, f"this picture has no alternative text to speak of ({words!r}): {cell.source}"
                assert "text/html" not in output.data, "the picture is stored twice"


@chapter
def test_a_widget_is_also_drawn_once_for_a_page_without_a_kernel(path):
    code = "\n".join(cell.source for cell in code_cells(path))
    for plot in re.findall(r"widgets\.shell\(\s*([\w.]+)", code):
        assert re.search(rf"^(\w+ = )?{re.escape(plot)}\(", code, re.MULTILINE), f"{plot} is never called by itself"


def test_a_raw_float_would_be_noticed():
    for text in ("loss 1.234567", "1.2e-07", "0.30000000000000004", "off by 12.34567"):
        assert re.search(RAW_FLOAT, text)
    for text in ("within 0.0001 of 18,959 MiB", "(within 1e-06)", "arXiv 1910.02054", checks.number(math.pi)):
        assert not re.search(RAW_FLOAT, text)
