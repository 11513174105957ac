"""Published against found as one picture: every number that can be shown, where it belongs."""

import pytest

from stlm_kit import plots
from stlm_kit.plots.ledger import points


def row(published, found, verdict="exact", claim_id="a.claim") -> dict:
    return {"id": claim_id, "published": published, "found": found, "verdict": verdict}


@pytest.mark.parametrize(
    ("published", "found", "pairs"),
    [
        (10, 11.0, [(10, 11)]),
        (10, {"one way": 9, "another": 12}, [(10, 9), (10, 12)]),
        ([4, 25], 5, [(5, 5)]),  # inside the range
        ([4, 25], 100, [(10, 100)]),  # outside: the range stands at its geometric mean
        ([2, 3], [2, 4], [(2, 2), (3, 4)]),
        ([2, 3, 4], [3, 4], []),
        (True, False, []),
        (0, 0, []),
        (-16.7, -16.7, []),
        ("1910.02054", "1909.11556", []),
        (20, None, []),
    ],
)
def test_points(published, found, pairs):
    drawn = [number for point in points([row(published, found)]) for number in (point.published, point.found)]
    assert drawn == pytest.approx([number for pair in pairs for number in pair])


def test_only_the_farthest_contradicted_claims_are_named_once_each():
    rows = [row(10**i, 10**i * (2 + i), "contradicted", f"claim.{i}") for i in range(8)]
    rows += [row(1, {"a": 1e3, "b": 1e4}, "contradicted", "farthest"), row(5, 1e6, "underdetermined", "no mistake")]
    axes = plots.published_found(rows, labels=3).axes[0]
    assert {text.get_text() for text in axes.texts} == {"farthest", "claim.7", "claim.6"}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["underdetermined (1)", "contradicted (9)"]
    assert axes.get_xscale() == "log"


def test_no_dot_hides_another_and_what_is_not_drawn_is_counted():
    rows = [row(100, 100, claim_id=f"claim.{i}") for i in range(30)] + [row(100, 150, claim_id="far")]
    axes = plots.published_found(rows).axes[0]
    dots = [tuple(dot) for dot in axes.collections[0].get_offsets().tolist()]
    assert len(set(dots)) == len(dots) == 8  # seven of the thirty, and one by itself
    assert [text.get_text() for text in axes.texts] == ["+ 23"]


def test_settings_are_no_findings():
    rows = [row(1, 1), row(2, 2, "setting", "a.setting") | {"kind": "config"}]
    assert [label.get_text() for label in plots.published_found(rows).axes[0].get_yticklabels()] == ["exact (1)"]


def test_no_rows_draw_an_empty_picture():
    empty = plots.published_found([])
    assert not empty.axes[0].collections and "no claim has a number yet" in empty.alternative_text


def test_its_alternative_text_counts_what_it_draws():
    rows = [row(100, 100), row(100, 200, "contradicted", "far.claim"), row(10, 5, "underdetermined", "other")]
    words = plots.published_found(rows).alternative_text
    assert "exact (1), underdetermined (1), contradicted (1)" in words
    assert "1 of 3 numbers agree within 1 %" in words and "far.claim at 2" in words and "other" not in words
