"""The kit's folders, and writing a file so that a killed process leaves no incomplete one."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
import secrets
import shutil
from pathlib import Path

from stlm_kit.errors import KitError


def project_dir() -> Path:
    """The checkout that holds the notebooks, or the working folder when the kit was installed as a package."""
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "notebooks").is_dir() and (checkout / "pyproject.toml").is_file() else Path.cwd()


def runs_dir() -> Path:
    """The folder of runs: $STLM_RUNS (such as a scratch disk) or runs/ of the project."""
    return Path(os.environ.get("STLM_RUNS") or project_dir() / "runs")


def cache_dir() -> Path:
    """The folder of caches (token files, trained tokenizers): $STLM_CACHE or the user's own cache folder."""
    return Path(os.environ.get("STLM_CACHE") or Path.home() / ".cache" / "stlm_kit")


def course_dir() -> Path:
    """The teacher's course folder: $STLM_COURSE, or course/ of the project."""
    return Path(os.environ.get("STLM_COURSE") or project_dir() / "course").absolute()


def folder_name(text: str) -> str:
    """A text with only characters that a folder name can have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)


def fsync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power failure. Does nothing where folders cannot be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def part_of(path: Path) -> Path:
    """A temporary name beside `path` that no other process or thread uses, on any node of a cluster."""
    return path.with_name(f"{path.name}.part-{secrets.token_hex(6)}")


def clear_parts(path: Path) -> None:
    """Remove what killed writers of a file or folder left beside it. The caller must hold its lock."""
    for part in path.parent.glob(f"{glob.escape(path.name)}.part-*"):
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def atomic_write(path: Path, content: bytes | str, mode: int = 0o666) -> Path:
    """Write `content` beside `path`, sync it and rename it: a reader sees the old file or the new one, never a part.

    mode: the permissions, minus the umask, from the first byte on. Raises KitError that names the file when the disk is
    full or the folder is read-only; the old file stays.
    """
    path = Path(path)
    part = part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # the folder may be a file
            part.unlink(missing_ok=True)
        raise KitError(
            f"Could not write {path}: {error.strerror}; free some space or choose another folder."
        ) from error
    fsync_folder(path.parent)
    return path


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
