"""Whether each quote occurs in the source's text, letter for letter except for white space.

The sources are not shipped. You give a folder with one plain text for each source: FOLDER/memory.txt, FOLDER/stlm.txt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from stlm_kit.errors import KitError
from stlm_kit.ledger.claims import Claim


class Checked(NamedTuple):
    """The result of a search: how many quotes were found, which were not, and the files that are missing."""

    found: int
    not_found: list[tuple[Claim, str]]
    missing: dict[Path, int]  # {file: number of its quotes, not searched}


def check(folder: Path, claims: Iterable[Claim]) -> Checked:
    """Search for every quote of `claims` in FOLDER/<source>.txt. KitError where the folder or a text cannot be read."""
    if not folder.is_dir():
        raise KitError(f"There is no folder {folder}; give one that holds a text for each source, such as memory.txt.")
    found, not_found, missing, texts = 0, [], {}, {}
    for claim in claims:
        file = folder / f"{claim.source}.txt"
        for quote in claim.quotes:
            if file not in texts:
                texts[file] = _text(file)
            text = texts[file]
            if text is None:
                missing[file] = missing.get(file, 0) + 1
            elif stands_in(quote, text):
                found += 1
            else:
                not_found.append((claim, quote))
    return Checked(found, not_found, missing)


def stands_in(quote: str, text: str) -> bool:
    """Whether the text contains these words. Any white space equals one space, and no word or number is cut."""
    words = re.escape(" ".join(quote.split()))
    return re.search(rf"(?<!\w){words}(?!\w)", " ".join(text.split())) is not None


def _text(file: Path) -> str | None:
    try:
        return file.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise KitError(f"{file} cannot be read as a text in UTF-8; save it as plain text.") from error
