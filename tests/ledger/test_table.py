"""The ledger as a filtered table."""

from stlm_kit import ledger
from stlm_kit.ledger import table as tables

CLAIMS = ("mem.params.total", "mem.embed.tied", "ld.cite.arxiv")
ROWS = [ledger.row(ledger.find_claim(claim_id), {"found": 28941393, "how": "<counted>"}) for claim_id in CLAIMS]


def ids(**filters) -> list[str]:
    return [row["id"] for row in tables.filtered(ROWS, **filters)]


def test_filters_narrow_together():
    assert ids() == list(CLAIMS)
    assert ids(source="memory") == ["mem.params.total", "mem.embed.tied"]
    assert ids(source="memory", verdict="exact") == ["mem.params.total"]
    assert ids(words="ARXIV number") == ["ld.cite.arxiv"] and ids(words="arxiv zebra") == []
    assert ids(kind="full_scale") == []


def test_the_table_shows_both_values_and_escapes_them():
    row = {**ROWS[2], "found": "<b>1909.11556</b>"}
    html = tables.claims([ROWS[0], row]).data
    assert "2 claims" in html and "28,941,393 parameters" in html and "1910.02054" in html
    assert "<b>" not in html and "&lt;b&gt;1909.11556" in html
    assert "the first 1 shown" in tables.claims(ROWS, most=1).data and "0 claims" in tables.claims([]).data
