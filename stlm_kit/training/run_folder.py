"""A run's folder: its lock, its configuration, and the files that record the run.

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
    """One run's folder, locked while the context is open. KitError where another process or another run uses it."""

    def __init__(self, path: Path | str, config: dict[str, Any]):
        """config: its parts by name.

        Parts that are settings objects (pydantic's) can be compared with older folders.
        """
        self.path, self.parts, self.config = Path(path), config, as_json(config)
        self.metrics_path = self.path / "metrics.jsonl"

    def __enter__(self) -> RunFolder:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = lock(self.path / ".lock")
            self._lock.acquire(wait=5)  # the process of a killed run needs a moment to end
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
                clear_parts(self.path / name)  # from a killed writer; we hold the lock
            self._claim()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _claim(self) -> None:
        """Write config.json, or check that the existing one gives the same numbers."""
        path = self.path / "config.json"
        found = read_json(path)
        if found is None:
            if any((self.path / name).exists() for name in ("metrics.jsonl", "result.json", "checkpoint")):
                raise KitError(f"{self.path} holds a run without its config.json; choose another run directory.")
            atomic_write(path, json.dumps(self.config, indent=1))
        elif difference := first_difference(self._completed(found), self._completed(self.config)):
            raise OtherRun(f"{self.path} holds another run ({difference}); choose another run directory.")

    def _completed(self, found: dict) -> dict:
        """A configuration from a folder, with settings that were added later at their defaults."""
        completed = dict(found)
        for name, part in self.parts.items():
            if isinstance(part, BaseModel) and isinstance(found.get(name), dict):
                with suppress(ValidationError, KitError):  # the setting no longer exists, so the two differ
                    completed[name] = type(part)(**found[name]).model_dump(mode="json")
        return completed

    @property
    def result(self) -> dict | None:
        """The finished run's result, or None while it is unfinished."""
        return read_json(self.path / "result.json")

    def metrics(self, up_to_step: int) -> list[dict]:
        """The rows up to a step. Later rows, and an incomplete last row, are cut from the file: they will be repeated.

        KitError, with nothing cut, where the file does not reach that step, because then rows are lost.
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
    """A configuration in the form of config.json."""
    parts = {
        name: part.model_dump(mode="json") if isinstance(part, BaseModel) else part for name, part in config.items()
    }
    return json.loads(json.dumps(parts))


def read_json(path: Path) -> dict | None:
    """A JSON file's content, or None where there is no file. KitError where it is damaged."""
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict):
            raise ValueError("it holds no settings by name")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise KitError(f"{path} is damaged; restore it from a copy or choose a new run directory.") from error
    return content


# These identify, describe or pace a run and do not change its numbers. What was read counts by its hashes in "content".
NEVER_COMPARED = {"made_by", "read", "training.checkpoint_every"}
# names whose content is hashed in "content"
NAMES = {"run.corpus", "run.tokenizer", "run.init_from", "distillation.teacher"}


def first_difference(found: dict, asked: dict, prefix: str = "", ignored: set[str] | None = None) -> str | None:
    """The first difference between two configurations, as "name is 1 there and 2 here", or None.

    The same text under another path is the same run. Hashes are compared last, so that a corpus is reported by its
    name.
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
