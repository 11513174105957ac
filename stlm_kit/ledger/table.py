"""The ledger as a table: filtered rows, shown as HTML in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from IPython.display import HTML

from stlm_kit import ledger
from stlm_kit.ledger.wording import in_words, said_line

COLUMNS = ("claim", "published", "found", "verdict", "reading")


def filtered(
    rows: Iterable[Mapping[str, Any]], source: str = "all", kind: str = "all", verdict: str = "all", words: str = ""
) -> list[Mapping[str, Any]]:
    """The rows of `ledger.rows()` with this source, kind and verdict, and with all `words` in id or statement."""
    wanted = {"source": source, "kind": kind, "verdict": verdict}
    return [
        row
        for row in rows
        if all(value in ("all", row[name]) for name, value in wanted.items())
        and all(word in f"{row['id']} {row['statement']}".lower() for word in words.lower().split())
    ]


def claims(rows: Iterable[Mapping[str, Any]], most: int = 20) -> HTML:
    """An HTML table of at most `most` rows of `ledger.rows()`: statement, quote and id, published, found, verdict."""
    rows = list(rows)
    known = {claim.id: claim for claim in ledger.load_claims()}
    body = "".join(_line(known[row["id"]], row) for row in rows[:most])
    head = "".join(f'<th style="text-align:left">{column}</th>' for column in COLUMNS)
    left_out = f", the first {most} shown" if len(rows) > most else ""
    count = f"{len(rows)} claim{'' if len(rows) == 1 else 's'}{left_out}"
    return HTML(f"<p>{count}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def _line(claim: ledger.Claim, row: Mapping[str, Any]) -> str:
    published, found = in_words(claim, row["found"])
    said = f"<small>{escape(said_line(claim))}</small><br>" if said_line(claim) else ""
    cells = [
        f"{escape(claim.statement)}<br>{said}<code>{claim.id}</code>",
        escape(published),
        escape(found),
        row["verdict"].replace("_", " "),
        escape(claim.reading or ""),
    ]
    return "<tr>" + "".join(f'<td style="text-align:left;vertical-align:top">{cell}</td>' for cell in cells) + "</tr>"
