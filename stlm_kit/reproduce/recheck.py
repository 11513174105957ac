"""`stlm reproduce --recheck`: whether today's code still computes the numbers of runs that older code made.

Among the runs that differ only in their code ("to be checked"), one of each kind is repeated: same settings, the first
three steps. If its losses equal the kept ones, all runs of its kind get today's hash; otherwise they are stale. Runs of
a kind may differ in seed, number of steps, batch size and learning rate. A chapter takes a minute, so it is not checked
and should be run again. A run that ran out of memory has no losses, so it is not checked either.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stlm_kit.errors import KitError
from stlm_kit.paths import atomic_write
from stlm_kit.provenance import now
from stlm_kit.reproduce.results import FIRST
from stlm_kit.reproduce.rows import own_row
from stlm_kit.reproduce.run import Run, read_record

if TYPE_CHECKING:
    from stlm_kit.train_from_text import RunSettings

TOLERANCE = 1e-5  # relative, of a loss
WITHIN_A_KIND = {"seed", "steps", "warmup_steps", "batch_size", "learning_rate", "min_learning_rate"}


@dataclass(frozen=True)
class Checked:
    """The result for some runs or rows, with a sentence: "holds", "stale", or "left" where they cannot be checked."""

    names: list[str]
    verdict: str
    sentence: str

    def __str__(self) -> str:
        names = ", ".join(self.names) if len(self.names) < 4 else f"{self.names[0]} and {len(self.names) - 1} more"
        return f"{names:<32}  {self.verdict}: {self.sentence}"


class _Enough(Exception):
    """The wanted number of steps is done."""


def kind(settings: RunSettings) -> str:
    """The settings that runs must share so that one of them can be checked for all, as text."""
    return json.dumps(settings.model_dump(mode="json", exclude=WITHIN_A_KIND), sort_keys=True)


def first_losses(settings: RunSettings, n_steps: int = FIRST) -> list[float]:
    """The losses, in nats a token, of the first steps of a run with its own schedule. Nothing is kept on disk."""
    from stlm_kit.train_from_text import train_from_text

    losses: list[float] = []

    def count(row: dict) -> None:
        losses.append(row["loss"])
        if len(losses) == n_steps:
            raise _Enough

    with suppress(_Enough):
        train_from_text(settings, progress=False, loggers=[count])
    return losses


def difference(found: list[float], kept: list[float]) -> str:
    """The first difference between two lists of losses beyond the tolerance, in words; "" where there is none."""
    if len(found) != len(kept) or not kept:
        return f"{len(kept)} losses were kept and {len(found)} were computed"
    for step, (here, there) in enumerate(zip(found, kept, strict=True), start=1):
        if not math.isclose(here, there, rel_tol=TOLERANCE):
            return f"the loss of step {step} is {here:.6g} and was {there:.6g}"
    return ""


@contextmanager
def as_many_threads(n: int | None) -> Iterator[None]:
    """Within this context torch uses as many threads as the run did, because another order of sums changes the loss."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def recheck_runs(runs: list[Run]) -> Iterator[Checked]:
    """Check the runs that are to be checked, and yield each result.

    Move the runs that hold; mark the others as stale.
    """
    from stlm_kit.options import settings_from

    kinds: dict[str, list[Run]] = {}
    for run in runs:
        if run.state() != "to be checked":
            continue
        if run.is_chapter:
            yield Checked(
                [run.name], "left", f"it is a chapter; `stlm reproduce {run.name.split('_')[0]}` runs it anew."
            )
        elif read_record(run.kept).get("status") == "out_of_memory":
            yield Checked([run.name], "left", "it ran out of memory and has no loss to compare; run it anew.")
        else:
            kinds.setdefault(kind(settings_from(run.parameters["settings"])), []).append(run)
    for alike in kinds.values():
        one = min(alike, key=lambda run: settings_from(run.parameters["settings"]).batch_size)
        try:
            differs = _differs(one)
        except KitError as error:
            yield Checked([run.name for run in alike], "left", f"it cannot be checked here: {error}")
            continue
        if differs:
            for run in alike:
                _mark_stale(run)
                yield Checked([run.name], "stale", f"in {one.name} {differs}; run it anew.")
        else:
            for run in alike:
                move(run)
            yield Checked([run.name for run in alike], "holds", f"the first losses of {one.name} are the same.")


def _differs(run: Run) -> str:
    """How the first losses of a run differ from those in its older folder; "" where they do not."""
    from stlm_kit.options import settings_from

    kept = _kept_losses(run.kept)
    if not kept:
        return "no losses were kept"
    with as_many_threads(own_row(run.kept).get("threads")):
        return difference(first_losses(settings_from(run.settings), len(kept)), kept)


def _kept_losses(folder: Path) -> list[float]:
    try:
        lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()[:FIRST]
        return [json.loads(line)["loss"] for line in lines]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def move(run: Run) -> None:
    """Make the folder of an older run this run's: change hash and identity in run.json, then rename the folder.

    `checked` in run.json records when, the old hash, and the code that trained the run, as its config.json names it.
    """
    with run.lock:
        older = run.older()
        if run.finished or older is None:  # another process has moved it
            return
        record = read_record(older)
        trained_by = record.get("checked", {}).get("trained_by") or record["identity"]["source"]
        checked = {"date": now(), "was": record["hash"], "trained_by": trained_by}
        _change(older, hash=run.hash, identity=run.identity, checked=checked)
        if run.folder.exists():  # it has no run.json, or it would not be to be checked
            shutil.rmtree(run.folder)
        older.rename(run.folder)


def _mark_stale(run: Run) -> None:
    source = run.identity["source"]
    _change(run.kept, found_stale={"date": now(), "source": source})


def _change(folder: Path, **changes: Any) -> None:
    text = json.dumps({**read_record(folder), **changes}, indent=1, ensure_ascii=False)
    atomic_write(folder / "run.json", text + "\n")
