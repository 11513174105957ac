"""WikiText's lines joined into articles. The lines may be rows of the hub's files or lines of a raw text file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

HEADING = re.compile(r" = (?!=).+(?<!=) = \n?")


def wikitext_articles(lines: Iterable[str]) -> Iterator[str]:
    """The articles of WikiText's rows, which are lines.

    An article starts at a heading of level one, ` = Title = `, between two empty lines.
    """
    article: list[str] = []
    before = ""
    for line in lines:
        heading = HEADING.fullmatch(line) and not before.strip()
        if heading and any(part.strip() for part in article):
            yield "".join(article)
            article = []
        article.append(line)
        before = line
    yield "".join(article)


def articles_of(text: str) -> list[str]:
    """The articles of a text file in WikiText's format (wiki.train.raw), or [] for another text.

    The format is recognized by the first line of text, a heading of level one: a blank, "=", the title, "=", a blank.
    An empty line is "" in the hub's rows and " \\n" in the file; the blank is dropped here, so both give the same
    documents.
    """
    first = next((line for line in re.finditer(r"[^\n]*\S[^\n]*", text)), None)
    if first is None or not HEADING.fullmatch(first[0].rstrip("\r")):
        return []
    lines = [line.rstrip("\r") for line in text.split("\n")]
    spaced = any(not line.strip() for line in lines[:-1])
    kept = []
    for line in lines:
        if not spaced and HEADING.fullmatch(line):
            kept.append("")  # a copy without empty lines: the heading alone marks the start
        kept.append(f"{line}\n" if line.strip() else "")
    return [article for article in wikitext_articles(kept) if article.strip()]
