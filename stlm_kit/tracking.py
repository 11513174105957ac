"""Trackers: each row of metrics.jsonl is also sent to Weights & Biases or TensorBoard.

metrics.jsonl is the run's own record and is written first; a tracker has a copy. So a tracker that is not installed
raises before training. One that fails later (no network, no login, a full disk, a killed process) only prints one
sentence on standard error; the run continues. Trackers are not settings of a run, so they do not affect its hash.

`stlm train --NAME [TARGET]` selects a tracker, and so does STLM_NAME=TARGET in the environment (1: the default target),
which also applies to a study's runs and papermill's kernels. To add one, write a subclass and put it into `TRACKERS`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from stlm_kit.errors import KitError, UsageError, near
from stlm_kit.paths import atomic_write


class Tracker:
    """A callable row -> None, used as a context. It opens at the first row, and after its creation it never raises.

    A subclass defines `open`, `write` and `close`, which may raise anything.
    """

    title = ""  # the name in messages
    package = ""  # the package that must be installed
    metavar = ""  # what its target is
    help = ""

    def __init__(self, target: str | bool, run_dir: Path | None, config: dict[str, Any]):
        """target: True for the default one. Raises KitError where the package is not installed."""
        self.check_installed()
        self.target, self.run_dir, self.config = target, run_dir, config
        self.opened = self.lost = False

    @classmethod
    def check_installed(cls) -> None:
        """Raise KitError where the package is missing."""
        found = importlib.util.find_spec(cls.package)
        if found is None or found.origin is None:  # without an origin it is a folder of that name, such as ./wandb
            raise KitError(f"{cls.title} is not installed; `pip install {cls.package}`, or train without it.")

    @classmethod
    def shared(cls, target: str, run_dir: Path) -> str:
        """The target of one run where the environment gives one target for all runs."""
        return target

    @classmethod
    def everywhere(cls, target: str) -> str:
        """The environment's target in a form that means the same in every folder."""
        return target

    def open(self, row: dict) -> None:
        """Start. `row` is the first row that will be written."""
        raise NotImplementedError

    def write(self, row: dict) -> None:
        """Write one row."""
        raise NotImplementedError

    def close(self, failed: bool) -> None:
        """Close what was opened. failed: the run raised."""
        raise NotImplementedError

    def give_up(self) -> None:
        """Clean up after a failure."""

    def earlier(self, row: dict) -> Iterator[dict]:
        """The rows of this run before `row`, written by earlier processes."""
        path = self.run_dir and self.run_dir / "metrics.jsonl"
        for line in path.read_text().splitlines() if path and path.is_file() else ():
            if (before := json.loads(line))["step"] < row["step"]:
                yield before

    def __enter__(self) -> Tracker:
        return self

    def __call__(self, row: dict) -> None:
        if self.lost:
            return
        try:
            if not self.opened:
                self.opened = True
                self.open(row)
            self.write(row)
        except Exception as error:  # no error of a tracker may stop the run
            self._lose(error, f"from step {row['step']} on")

    def __exit__(self, kind: object, *_: object) -> None:
        if not self.opened:
            return
        try:
            self.close(failed=kind is not None)
        except Exception as error:
            self._lose(error, "at its end")
        if self.lost:
            with suppress(Exception):
                self.give_up()

    def _lose(self, error: Exception, when: str) -> None:
        """Print once that this tracker has stopped."""
        if not self.lost:
            why = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
            kept = "metrics.jsonl holds every row" if self.run_dir else "training is not stopped by it"
            print(f"stlm: {self.title} failed {when} ({why.rstrip('.')}); {kept}.", file=sys.stderr, flush=True)
        self.lost = True


class WandB(Tracker):
    """One W&B run for each training run. Its id is stored in the run's folder, so a resumed run continues the same one.

    `WANDB_MODE=offline` keeps everything in RUN_DIR/wandb, one folder for each process. Each also holds the rows of
    earlier processes, so `wandb sync` of the last one sends all.
    """

    title, package, metavar = "Weights & Biases", "wandb", "PROJECT"
    help = "log to this project of Weights & Biases as well (default: what WANDB_PROJECT says)"
    run = None

    def open(self, row: dict) -> None:
        """Start the W&B run, and repeat the rows of earlier processes."""
        import wandb

        folder = self.run_dir or Path.cwd()
        self.run = wandb.init(
            project=None if self.target is True else self.target,
            config=self.config,
            dir=str(folder),
            name=folder.resolve().name,
            id=self._id(),
            resume="allow",
            settings=wandb.Settings(finish_timeout=60),  # seconds; without a network it would wait for days
        )
        for before in self.earlier(row):
            self.write(before)

    def _id(self) -> str | None:
        """The id stored in the run's folder."""
        if self.run_dir is None:
            return None
        path = self.run_dir / "wandb" / "run-id"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, secrets.token_hex(4))
        return path.read_text().strip()

    def write(self, row: dict) -> None:
        if row["step"] >= self.run.step:  # a resumed run repeats steps that W&B has, with equal numbers
            self.run.log(flat(row), step=row["step"], commit=True)

    def close(self, failed: bool) -> None:
        if self.run is not None:
            self.run.finish(exit_code=1 if failed else 0)
            folder = (self.run_dir or Path.cwd()) / "wandb"
            if folder.is_dir() and shutil.disk_usage(folder).free == 0:  # W&B does not report it
                raise OSError("its disk is full, so the last rows may be missing there")

    def give_up(self) -> None:
        import wandb

        wandb.teardown()  # otherwise W&B prints a traceback at exit, after its service has ended


EVENTS = "events.out.tfevents"  # the file name that TensorBoard looks for


class TensorBoard(Tracker):
    """Event files in RUN_DIR/tensorboard, or in a folder that belongs to one run.

    Each row is written at once with TensorBoard's own record format. Its SummaryWriter writes in a thread, where a full
    disk is noticed late and a killed process loses up to two minutes.
    """

    title, package, metavar = "TensorBoard", "tensorboard", "DIR"
    help = "write TensorBoard's event files as well (default: RUN_DIR/tensorboard)"
    file = None

    def __init__(self, target: str | bool, run_dir: Path | None, config: dict[str, Any]):
        super().__init__(target, run_dir, config)
        if target is True and run_dir is None:
            raise UsageError("TensorBoard needs a folder where there is no run directory; name one.")
        self.folder = run_dir / "tensorboard" if target is True else Path(target).expanduser()

    @classmethod
    def everywhere(cls, target: str) -> str:
        return target if target == "1" else str(Path(target).expanduser().absolute())

    @classmethod
    def shared(cls, target: str, run_dir: Path) -> str:
        run_dir = run_dir.resolve()
        return str(Path(target) / run_dir.parent.name / run_dir.name)

    def open(self, row: dict) -> None:
        """Create the event file, and repeat the rows of earlier processes where the folder has none."""
        from tensorboard.summary.writer.record_writer import RecordWriter

        new = not any(self.folder.glob(f"{EVENTS}*"))
        self.folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files in the order of their names
        name = f"{EVENTS}.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self.file = (self.folder / name).open("ab")
        self.records = RecordWriter(self.file)
        # Hides what was logged from this step on: the run returned to its checkpoint and repeats these steps.
        start = 1 if new else row["step"]
        self._add(start, file_version="brain.Event:2")
        self._add(start, session_log={"status": "START"})
        for before in self.earlier(row) if new else ():
            self.write(before)

    def write(self, row: dict) -> None:
        """Append a row and flush."""
        self._add(row["step"], summary={"value": [_summary(name, value) for name, value in flat(row).items()]})
        self.file.flush()  # a killed process loses nothing, and a full disk raises here

    def _add(self, step: int, **what: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self.records.write(Event(wall_time=time.time(), step=step, **what).SerializeToString())

    def close(self, failed: bool) -> None:
        if self.file is not None:
            self.file.close()


def _summary(name: str, value: float | str) -> dict[str, Any]:
    """A number or a text in the form of TensorBoard's Summary.Value."""
    if not isinstance(value, str):
        return {"tag": name, "simple_value": value}
    text = {"dtype": "DT_STRING", "string_val": [value.encode()], "tensor_shape": {"dim": [{"size": 1}]}}
    return {"tag": name, "metadata": {"plugin_data": {"plugin_name": "text"}}, "tensor": text}


def flat(row: dict) -> dict[str, Any]:
    """{name: number or text} of a row, with an evaluation's as "validation/perplexity". None values are left out."""
    pairs = {}
    for name, value in row.items():
        pairs |= {f"{name}/{key}": each for key, each in value.items()} if isinstance(value, dict) else {name: value}
    return {name: value for name, value in pairs.items() if value is not None and name != "step"}


TRACKERS: dict[str, type[Tracker]] = {"wandb": WandB, "tensorboard": TensorBoard}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for each tracker: --NAME [TARGET]."""
    for name, kind in TRACKERS.items():
        parser.add_argument(f"--{name}", nargs="?", const=True, metavar=kind.metavar, help=kind.help)


def chosen(options: argparse.Namespace) -> dict[str, str | bool | None]:
    """{name: target} of the options, for `trackers_for`."""
    return {name: getattr(options, name) for name in TRACKERS}


def trackers_for(
    given: Mapping[str, str | bool | None], run_dir: Path | str | None, config: dict[str, Any]
) -> list[Tracker]:
    """The trackers of a run: those given as {name: target}, and any others that the environment selects.

    A run without a folder ignores the environment. UsageError for an unknown name, KitError for one that is not
    installed.
    """
    if unknown := next((name for name in given if name not in TRACKERS), None):
        raise UsageError(f"There is no tracker {unknown!r}; there are {', '.join(TRACKERS)}.{near(unknown, TRACKERS)}")
    run_dir = None if run_dir is None else Path(run_dir)
    targets = {} if run_dir is None else {name: _shared(name, target, run_dir) for name, target in _asked().items()}
    targets |= {name: target for name, target in given.items() if target is not None}
    return [TRACKERS[name](target, run_dir, config) for name, target in targets.items() if target]


def _asked() -> dict[str, str]:
    """{name: target} of the environment variables STLM_WANDB and similar, except empty ones and 0."""
    texts = {name: os.environ.get(f"STLM_{name.upper()}", "").strip() for name in TRACKERS}
    return {name: text for name, text in texts.items() if text not in ("", "0")}


def _shared(name: str, target: str, run_dir: Path) -> str | bool:
    return True if target == "1" else TRACKERS[name].shared(target, run_dir)


def ready_for_kernels() -> None:
    """Prepare trackers for runs in kernels, which work in other folders. KitError for a tracker that is not
    installed.
    """
    for name, target in _asked().items():
        TRACKERS[name].check_installed()
        os.environ[f"STLM_{name.upper()}"] = TRACKERS[name].everywhere(target)
