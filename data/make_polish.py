"""Make data/polish.txt again from Debian's libreoffice-help-pl (the text is under the MPL-2.0; see polish.LICENSE.txt).

    apt-get download libreoffice-help-pl && dpkg -x libreoffice-help-pl_*.deb unpacked
    python data/make_polish.py unpacked

A page of the help becomes one document: its heading and its paragraphs of prose, a line each; pages are separated by a
blank line. The navigation banner, menus, lists of links, code and paragraphs that are not sentences are left out.
"""

from __future__ import annotations

import random
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

LARGEST = 200_000  # bytes
BLOCKS = {"p", "h1", "h2", "h3"}
LEFT_OUT = {"script", "style", "header", "aside", "footer", "pre", "code", "table", "nav"}
LEFT_OUT_CLASSES = {"MAC", "WIN", "UNIX", "related", "embedded", "relatedbody"}  # a switch keeps its default variant
# Words of paragraphs that nobody has translated yet.
ENGLISH = re.compile(r"\b(the|The|of|and|this|This|you|your|with|are|from|Select|File|Format|Edit|by)\b")


class Page(HTMLParser):
    """Collects the text of headings and paragraphs."""

    def __init__(self):
        super().__init__()
        self.blocks: list[str] = []
        self.open_block: list[str] | None = None
        self.skipping: list[str] = []  # open elements inside one that is left out

    def handle_starttag(self, tag, attributes):
        names = dict(attributes)
        if self.skipping or tag in LEFT_OUT or names.get("class") in LEFT_OUT_CLASSES:
            if tag not in ("input", "meta", "link", "img", "br", "hr"):
                self.skipping.append(tag)
        elif tag in BLOCKS:
            self.open_block = []

    def handle_endtag(self, tag):
        if self.skipping:
            if tag in self.skipping:
                del self.skipping[len(self.skipping) - 1 - self.skipping[::-1].index(tag) :]
        elif tag in BLOCKS and self.open_block is not None:
            text = re.sub(r"\s+", " ", "".join(self.open_block)).strip()
            self.blocks.append(text)
            self.open_block = None

    def handle_data(self, data):
        if not self.skipping and self.open_block is not None:
            self.open_block.append(data)


def prose(path: Path) -> str:
    """A page's heading and its sentences of eight words or more; empty when few are left or many are English."""
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    if not page.blocks:
        return ""
    heading, *rest = page.blocks
    kept = [text for text in rest if len(text.split()) >= 8 and re.search(r"[.!?]$", text) and text[0].isupper()]
    kept = [text for text in dict.fromkeys(kept) if not re.search(r"[{}<>|=]|https?:|\bAPI\b", text)]
    polish = [text for text in kept if not ENGLISH.search(text)]
    if len(polish) < 0.8 * len(kept) or ENGLISH.search(heading):
        return ""
    kept = polish
    return "\n".join([heading, *kept]) if len(kept) >= 3 and heading else ""


def main() -> None:
    text = Path(sys.argv[1]) / "usr/share/libreoffice/help/pl/text"
    folders = ("swriter", "shared", "simpress", "sdraw", "smath", "sdatabase")  # prose; scalc and sbasic list functions
    pages = sorted(path for folder in folders for path in (text / folder).rglob("*.html"))
    random.Random(0).shuffle(pages)  # a sample over the whole help, the same every time
    documents, size, seen = [], 0, set()
    for path in pages:
        document = prose(path)
        lines = set(document.splitlines()[1:])
        if not document or len(lines & seen) > 0.3 * len(lines):  # a page that mostly repeats another
            continue
        if size + len(document.encode()) + 2 > LARGEST:
            break
        seen |= lines
        documents.append(document)
        size += len(document.encode()) + 2
    Path(__file__).with_name("polish.txt").write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    print(f"{len(documents)} documents, {size} bytes")


if __name__ == "__main__":
    main()
