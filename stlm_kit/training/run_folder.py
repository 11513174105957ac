"""A run's folder: who may write in it, what configuration it belongs to, and the files that tell its story.

config.json     what the run is; another configuration is refused
metrics.jsonl   one row a step, an evaluation in the row of its step; cut back to the checkpoint on resume
result.json     written last: the run is finished
checkpoint/     see checkpoint.py
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from stlm_kit.errors import KitError, OtherRun
from stlm_kit.locks import Held, lock
from stlm_kit.paths import atomic_write, clear_parts


class RunFolder:
    """One run's folder, locked while the context is open. KitError when another process or another run has it."""

    def __init__(self, path: Path | str, config: dict[str, Any]):
        """config: parts by name; settings objects (pydantic's) among them let older folders' parts be read."""
        self.path, self.parts, self.config = Path(path), config, as_json(config)
        self.metrics_path = self.path / "metrics.jsonl"

    def __enter__(self) -> RunFolder:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = lock(self.path / ".lock")
            self._lock.acquire(wait=5)  # a killed run's last process needs a moment to go
        except Held as error:
            raise KitError(
                f"Another process is training in {self.path}; wait for it or choose another run directory."
            ) from error
        except OSError as error:
            raise KitError(f"Cannot use {self.path} as a run directory: {error.strerror}; choose another.") from error
        try:
            for name in (
                "config.json",
                "metrics.jsonl",
                "result.json",
                "checkpoint/latest",
                "checkpoint/frozen.safetensors",
            ):
                clear_parts(self.path / name)  # of a killed writer: we hold the lock
            self._claim()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _claim(self) -> None:
        """Write config.json, or check that the one found asks for the same numbers."""
        path = self.path / "config.json"
        found = read_json(path)
        if found is None:
            if any((self.path / name).exists() for name in ("metrics.jsonl", "result.json", "checkpoint")):
                raise KitError(f"{self.path} holds a run without its config.json; choose another run directory.")
            atomic_write(path, json.dumps(self.config, indent=1))
        elif difference := first_difference(self._completed(found), self._completed(self.config)):
            raise OtherRun(f"{self.path} holds another run ({difference}); choose another run directory.")

    def _completed(self, found: dict) -> dict:
        """A configuration as read from a folder, with the settings that came later at their defaults."""
        completed = dict(found)
        for name, part in self.parts.items():
            if isinstance(part, BaseModel) and isinstance(found.get(name), dict):
                with suppress(ValidationError, KitError):  # a setting that is gone: then the two differ
                    completed[name] = type(part)(**found[name]).model_dump(mode="json")
        return completed

    @property
    def result(self) -> dict | None:
        """The finished run's result, None while it is unfinished."""
        return read_json(self.path / "result.json")

    def metrics(self, up_to_step: int) -> list[dict]:
        """The rows up to a step. Later ones, and half a row at the end, are cut from the file: they will come again.

        KitError, and nothing is cut, where the file does not reach that step: part of the run's story is lost.
        """
        rows = []
        if self.metrics_path.exists():
            for line in self.metrics_path.read_text(errors="replace").splitlines():
                try:
                    row = json.loads(line)
                    if row["step"] <= up_to_step:
                        rows.append(row)
                except (ValueError, KeyError, TypeError):
                    break
        if up_to_step and (not rows or rows[-1]["step"] != up_to_step):
            raise KitError(
                f"{self.metrics_path} is missing or damaged before step {up_to_step}, which its checkpoint reached; "
                "restore it from a copy, or choose a new run directory."
            )
        atomic_write(self.metrics_path, "".join(json.dumps(row) + "\n" for row in rows))
        return rows

    def append(self, row: dict) -> None:
        """Add a row to metrics.jsonl."""
        try:
            with self.metrics_path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise KitError(f"Could not write {self.metrics_path}: {error.strerror}; free some space.") from error

    def finish(self, result: dict) -> None:
        """Write result.json."""
        atomic_write(self.path / "result.json", json.dumps(result, indent=1))


def as_json(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration as config.json holds it."""
    parts = {
        name: part.model_dump(mode="json") if isinstance(part, BaseModel) else part for name, part in config.items()
    }
    return json.loads(json.dumps(parts))


def read_json(path: Path) -> dict | None:
    """A JSON file's content, None where there is no such file; KitError where it is damaged."""
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict):
            raise ValueError("it holds no settings by name")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise KitError(f"{path} is damaged; restore it from a copy or choose a new run directory.") from error
    return content


# They mark, tell or pace a run and leave its numbers alone: what was read counts by its hashes, in "content".
NEVER_COMPARED = {"made_by", "read", "training.checkpoint_every"}
NAMES = {"run.corpus", "run.tokenizer", "run.init_from"}  # names of what "content" holds the hashes of


def first_difference(found: dict, asked: dict, prefix: str = "", ignored: set[str] | None = None) -> str | None:
    """Where two configurations differ first, as "name is 1 there and 2 here"; None where they give the same numbers.

    The same text under another path is the same run. Hashes are looked at last: a corpus is told by its name first.
    """
    if ignored is None:
        ignored = NEVER_COMPARED | (NAMES if found.get("content") == asked.get("content") else set())
    for key in sorted(found.keys() | asked.keys(), key=lambda key: (key == "content", key)):
        name, there, here = f"{prefix}{key}", found.get(key), asked.get(key)
        if name in ignored:
            continue
        if isinstance(there, dict) and isinstance(here, dict):
            if difference := first_difference(there, here, f"{name}.", ignored):
                return difference
        elif there != here:
            return f"{name} is {there!r} there and {here!r} here"
    return None
