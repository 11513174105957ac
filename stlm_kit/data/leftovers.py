"""Files of a folder that are not data: those that tools, systems and editors create, and pages about the data."""

from __future__ import annotations

import re

NAMES = {
    "__pycache__", "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information",
    "lost+found", "@eadir", "#recycle", "cvs", "node_modules",
}  # fmt: skip
# Backups, swap files, incomplete downloads, the kit's own unfinished files, locks.
ENDINGS = re.compile(
    r"(~|\.(sw[a-p]|un~|bak|backup|old|orig|rej|tmp|temp|part(ial)?(-\d+)?|crdownload|download|incomplete|aria2|lock"
    r"|lck|pid|pyc))$"
)
COPIES = re.compile(r"\.sync-conflict-|conflicted copy")  # second copies that Syncthing and Dropbox make
PAGES = re.compile(
    r"(readme|licen[sc]es?|copying|copyright|notice|authors|changelog|contributing|citation|requirements"
    r"|dataset[_-]?card)([._-].*)?|.*[._-]licen[sc]e(\.[a-z]+)?"
)


def is_leftover(name: str) -> bool:
    """Whether a name is that of a leftover: hidden, made by a tool, a backup, an incomplete download, or a lock."""
    low = name.lower()
    if low.startswith((".", "~$")) or (low.startswith("#") and low.endswith("#")) or low in NAMES:
        return True
    return bool(ENDINGS.search(low) or COPIES.search(low))


def is_page(name: str) -> bool:
    """Whether a file's name is that of a page about the data, such as README.md or LICENSE.txt."""
    return PAGES.fullmatch(name.lower()) is not None
