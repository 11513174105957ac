"""One run: a notebook with parameters, the run's folder, its record, and its state.

runs/<study>/<run-name>-<hash>/
    run.json        what was requested, by which code, how it ended; written by the runner
    config.json, metrics.jsonl, result.json, checkpoint/    written by the training (a chapter has the first and third)
    row.json        the numbers of a study's run
    ledger/         the answers it recorded
    log.txt         what its kernel printed
    NAME.ipynb      the executed notebook; NAME.ipynb.part while it runs, NAME.failed.ipynb where it failed; none of
                    these where papermill was called directly, because it writes where it was told
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from stlm_kit.errors import KitError
from stlm_kit.locks import Lock
from stlm_kit.paths import atomic_write, runs_dir
from stlm_kit.reproduce.run_hash import configuration_hash, identity

CHAPTERS = "chapters"  # the study name of the course's own notebooks
# the program that executed a run without the runner, and the folder of its runs without a study
PAPERMILL = "papermill"
FINISHED = ("done", "out_of_memory")  # running out of memory is a result, too: the configuration does not fit


@dataclass(frozen=True)
class Run:
    """A notebook to execute with these parameters, under this name within its study."""

    study: str
    name: str
    notebook: Path
    parameters: dict[str, Any] = field(hash=False)
    profile: str = "laptop"
    labels: dict[str, Any] = field(default_factory=dict, hash=False)  # its place in its study's grid
    needs: dict[str, Run] = field(default_factory=dict, hash=False)  # {setting: the run whose weights it takes}

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the run's numbers depend on; see run_hash.py. It changes once a needed run is finished."""
        needed = {setting: need.content for setting, need in self.needs.items()}
        found = self.__dict__.get("_identity")
        if found is None or found[0] != needed:
            found = self.__dict__["_identity"] = (needed, identity(self.notebook, self.parameters, needed))
        return found[1]

    @property
    def hash(self) -> str:
        """The run's hash; see run_hash.py."""
        return configuration_hash(self.identity)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a study's run, with the folders of the runs that it needs. KitError for unfinished ones."""
        return self.with_folders(self.parameters["settings"])

    def with_folders(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Settings in which each needed run is the folder with its weights. KitError for one that is not finished."""
        folders = {}
        for setting, need in self.needs.items():
            if not need.has_weights:
                raise KitError(
                    f"The run {need.name} is needed first; `stlm reproduce {need.study} --only {need.name}`."
                )
            folders[setting] = str(need.kept)
        return {**settings, **folders}

    @property
    def depth(self) -> int:
        """How many unfinished runs must end one after the other before this one can start."""
        return max((1 + need.depth for need in self.needs.values() if not need.finished), default=0)

    @property
    def has_weights(self) -> bool:
        """Whether another run can take this run's weights: it is done, or was with code that may compute the same."""
        usable = self.finished or self.state() == "to be checked"
        return usable and read_record(self.kept).get("status") == "done"

    @property
    def content(self) -> str:
        """What identifies the run's weights for the runs that need it: their hash, or before that its own hash."""
        return weights_hash_of(self.kept) if self.has_weights else f"run {self.name} {self.hash}"

    @property
    def folder(self) -> Path:
        """The run's folder, as an absolute path."""
        return runs_dir().absolute() / self.study / f"{self.name}-{self.hash}"

    @property
    def executed(self) -> Path:
        """The path of the executed notebook when the run is done."""
        return self.folder / self.notebook.name

    @property
    def is_chapter(self) -> bool:
        """Whether the run is of a chapter and not of a study."""
        return self.study == CHAPTERS

    @property
    def record(self) -> dict[str, Any]:
        """The content of run.json, or {} where there is none that can be read."""
        return read_record(self.folder)

    def write_record(self, **changes: Any) -> None:
        """Change fields of run.json."""
        text = json.dumps({**self.record, **changes}, indent=1, ensure_ascii=False)
        atomic_write(self.folder / "run.json", text + "\n")

    @property
    def finished(self) -> bool:
        """Whether this run, with this hash, has its result."""
        record = self.record
        # papermill writes the notebook where it was told
        whole = self.executed.is_file() or record.get("by") == PAPERMILL
        return record.get("status") == "out_of_memory" or (record.get("status") == "done" and whole)

    @property
    def lock(self) -> Lock:
        """The lock that a process holds while it executes the run. It is freed when its holder dies (see locks.py).

        Raises KitError where the lock's folder cannot be created.
        """
        try:
            self._lock_file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise KitError(
                f"Cannot keep runs in {runs_dir()}: {error.strerror}; set STLM_RUNS to a folder that can be written."
            ) from error
        return Lock(self._lock_file)

    @property
    def _lock_file(self) -> Path:
        return self.folder.parent / ".locks" / f"{self.folder.name}.lock"

    @property
    def kept(self) -> Path:
        """The folder with this run's results: its own, or that of an older run that may still be valid for it."""
        return self.older() or self.folder if self.state() in ("to be checked", "stale") else self.folder

    def older(self) -> Path | None:
        """The latest finished run of the same name and parameters with another code, other versions or other
        content, or None.
        """
        found = []
        for folder in self.folder.parent.glob(f"{self.name}-*"):
            record = read_record(folder)
            same = record.get("name") == self.name and record.get("parameters") == self.parameters
            if same and folder != self.folder and record.get("status") in FINISHED:
                found.append((record.get("ended", ""), folder))
        return max(found)[1] if found else None

    def state(self) -> str:
        """done, out_of_memory, failed, interrupted, running, to be checked, stale or missing.

        A run that was finished with another hash is "to be checked" if it differs only in the code of the hashed
        modules, which may compute the same (`stlm reproduce --recheck` finds out). Otherwise it is "stale".
        """
        if self.finished:
            return self.record["status"]
        if Lock(self._lock_file).held():
            return "running"
        status = self.record.get("status")
        if status in ("failed", "interrupted"):
            return status
        if status == "running":  # no process holds the lock: the one that ran it was killed
            return "interrupted"
        older = self.older()
        return "missing" if older is None else "to be checked" if self._may_be(older) else "stale"

    def _may_be(self, older: Path) -> bool:
        """Whether an older run differs from this one only in hashed modules, and no check found a difference."""
        found, asked = read_record(older), self.identity
        refused = found.get("found_stale", {}).get("source") == asked["source"]
        return not refused and {**found.get("identity", {}), "source": asked["source"]} == asked


def weights_hash_of(folder: Path) -> str:
    """The hash of the weights in a run's folder, read once for each state of its checkpoint."""
    from stlm_kit.training.checkpoint import latest_checkpoint

    checkpoint = latest_checkpoint(folder / "checkpoint")
    return _weights_hash(folder, checkpoint.stat().st_mtime_ns if checkpoint else 0)


@cache
def _weights_hash(folder: Path, modified: int) -> str:
    from stlm_kit.saved_models import weights_hash

    return weights_hash(folder)


def read_record(folder: Path) -> dict[str, Any]:
    """The content of a folder's run.json, or {} where there is none that can be read."""
    try:
        record = json.loads((folder / "run.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
