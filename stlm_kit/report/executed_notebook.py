"""What an executed notebook shows: its figures, the verdicts of its checked cells, and the answers it recorded."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stlm_kit import ledger
from stlm_kit.errors import UsageError
from stlm_kit.ledger.wording import in_words, said_line
from stlm_kit.notebook_files import read_cells, tags

if TYPE_CHECKING:
    from stlm_kit.plots.picture import Picture

CHECKED = "nbval-check-output"  # the tag of a cell whose output is a verdict, the same on every machine


@dataclass(frozen=True)
class Figure:
    """One picture: its PNG, the heading it stands under, and its text for readers who cannot see it."""

    png: bytes
    caption: str
    alternative_text: str = ""

    @property
    def data_uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.png).decode()

    @property
    def alt(self) -> str:
        """What the page's image says: a picture of a notebook of one's own may have no more than its heading."""
        return self.alternative_text or f"Picture without a description, under the heading: {self.caption}"


def of_plot(drawn: Picture, caption: str) -> Figure:
    """A plot of the kit that no notebook holds."""
    from stlm_kit.plots.picture import png

    return Figure(png(drawn), caption, drawn.alternative_text)


@dataclass(frozen=True)
class Answer:
    """One claim as a chapter answered it, in a reader's words."""

    id: str
    statement: str
    published: str
    found: str
    verdict: str
    how: str = ""
    said: str = ""  # the quote, or how the claim is derived


def figures(notebook: Path) -> list[Figure]:
    """The PNG outputs of a notebook, in order."""
    found, heading = [], ""
    for cell in read_cells(notebook):
        if cell["cell_type"] == "markdown":
            headings = re.findall(r"^#+\s+(.+)$", cell["source"], re.MULTILINE)
            heading = plain(headings[-1]) if headings else heading
        for output in cell.get("outputs", []):
            if png := output.get("data", {}).get("image/png"):
                words = output.get("metadata", {}).get("image/png", {}).get("alt", "")
                found.append(Figure(base64.b64decode("".join(png)), heading, words))
    return found


def verdicts(notebook: Path) -> list[str]:
    """What the checks in the cells tagged nbval-check-output printed; what the ledger printed there is in `answers`."""
    lines = []
    for cell in read_cells(notebook):
        if CHECKED in tags(cell):
            texts = ["".join(out["text"]) for out in cell.get("outputs", []) if out["output_type"] == "stream"]
            lines += [line for line in "".join(texts).splitlines() if line.startswith(("same: ", "within ", "shows: "))]
    return lines


def answers(folder: Path) -> list[Answer]:
    """The claims that a run answered (its ledger/*.json), each beside what was published."""
    found = []
    for path in sorted((folder / "ledger").glob("*.json")):
        try:
            found.append(_answer(json.loads(path.read_text("utf-8"))))
        except (OSError, ValueError, KeyError):  # half a file of another program: the ledger itself complains of it
            continue
    return found


def _answer(answer: dict[str, Any]) -> Answer:
    try:
        claim = ledger.find_claim(answer["id"])
    except UsageError:  # recorded by a study that is not the kit's
        return Answer(answer["id"], answer["id"], "", str(answer["found"]), "", answer.get("how", ""))
    row = ledger.row(claim, answer)
    published, found = in_words(claim, row["found"])
    shown = found or "not answered here"
    verdict = row["verdict"].replace("_", " ")
    return Answer(claim.id, claim.statement, published, shown, verdict, row["how"], said_line(claim))


def plain(markdown: str) -> str:
    """A line of markdown without its marks, for a page that does not render them."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", markdown)
    return re.sub(r"\*\*|__|`|(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)", "", text).strip()
