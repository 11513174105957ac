"""The report in a browser: no page wider than the window, on a screen or a telephone, and no image without words."""

import pytest

from stlm_kit.ledger import Claim, load_claims
from stlm_kit.ledger.wording import said_line
from stlm_kit.report.executed_notebook import Answer, of_plot
from stlm_kit.report.ledger_summary import ledger_summary
from stlm_kit.report.own_studies import Scores
from stlm_kit.report.report import Section, StudyTable, render
from stlm_kit.tables.text import Cells

LONG = "a-study-with-a-name-that-has-no-place-to-break-" * 3
WIDER = "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
CUT = """() => [...document.querySelectorAll('img')].filter(image => !image.alt || !image.naturalWidth).length"""


def drawn():
    from stlm_kit import plots

    picture = plots.losses([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}])
    picture.set_size_inches(14, 3)
    picture.alternative_text = "A line that falls"
    return of_plot(picture, LONG)


def answered(claim: Claim) -> Answer:
    readings = "; ".join(f"read in the {n}th way: 1,234,567,890 parameters" for n in range(6))
    return Answer(
        claim.id, claim.statement, "at least 1,234,567,890 parameters", readings, "underdetermined", said=LONG
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page with everything that might be wide: many columns, long names, readings, errors, figures, the ledger."""
    columns = [f"a_column_of_numbers_{n}" for n in range(24)]
    line = {"name": LONG, "state": "done", "label": "done", "time": "1 h 02 min", "link": LONG}
    rows = [{**line, "numbers": dict.fromkeys(columns, 1234567890)} for _ in range(3)]
    cells = Cells(["one", "two", *columns], [[LONG, "x", *["1,234,567 ± 1,234"] * len(columns)]], 2)
    scores = Scores([cells], [LONG], [drawn()])
    table = StudyTable("study", LONG, columns, rows, dict.fromkeys(columns, 0.5), [drawn(), drawn()], [LONG], scores)
    claims = sorted(load_claims(), key=lambda claim: len(said_line(claim)))[-2:]
    section = Section(
        "00_a", "00", LONG, LONG, "done", 61.0, "2024-05-06", "laptop", f"corpus={LONG}", page=LONG, notebook=LONG,
        log=LONG, checks=[f"same: {LONG}"] * 9, answers=list(map(answered, claims)), figures=[drawn()],
    )  # fmt: skip
    failed = Section("01_b", "01", "Short", "", "failed", sentence=f"Cell 3: ValueError: {LONG}")
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render([section, failed], [table], ledger_summary()), "utf-8")
    return path


@pytest.mark.parametrize("width", [1280, 400])
def test_no_part_of_the_page_is_wider_than_the_window(report, page, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(report.as_uri())
    page.evaluate("() => document.querySelectorAll('details').forEach(each => { each.open = true })")
    wide, window = page.evaluate(WIDER)
    assert wide <= window == width
    page.evaluate("() => document.body.insertAdjacentHTML('beforeend', '<pre>' + 'x'.repeat(500) + '</pre>')")
    wide, window = page.evaluate(WIDER)
    assert wide > window  # so a part that is too wide would be noticed


def test_every_image_has_words_and_is_drawn(report, page):
    page.goto(report.as_uri())
    page.evaluate("() => document.querySelectorAll('img').forEach(image => { image.loading = 'eager' })")
    page.wait_for_function("() => [...document.querySelectorAll('img')].every(image => image.complete)")
    assert page.locator("img").count() == 4
    assert page.evaluate(CUT) == 0
