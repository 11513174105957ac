"""Extend a finished run: the same settings, more steps, in a new folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stlm_kit.errors import KitError, UsageError
from stlm_kit.train_from_text import RunSettings, run_settings, train_from_text
from stlm_kit.training.loop import TrainResult
from stlm_kit.training.run_folder import read_json


def continue_from(
    run_dir: Path, steps: int, folder: Path, *, say: Callable[[str], object] = print, **how: Any
) -> TrainResult:
    """Train on from the end of a finished run to `steps` steps in total, and write into `folder`. The old run is kept.

    Weights, optimizer state and metrics start as the old run ended. Its settings hold, except the number of steps,
    which the learning-rate schedule depends on: `say` is told how the schedule changes. A target perplexity that ended
    the old run no longer applies. `how` goes to `train_from_text`.

    Raises KitError for a folder without a finished run, UsageError for a number of steps that does not extend it.
    """
    run_dir = Path(run_dir)
    config, result = read_json(run_dir / "config.json"), read_json(run_dir / "result.json")
    if config is None or "run" not in config or "training" not in config:
        raise KitError(f"{run_dir} holds no run of `stlm train`; give the folder of one.")
    if result is None:
        raise KitError(f"The run in {run_dir} is not finished; the command that began it goes on.")
    if steps <= result["steps"]:
        raise UsageError(f"The run in {run_dir} has {result['steps']} steps already; give --steps above that.")
    if folder.resolve() == run_dir.resolve():
        raise UsageError(f"{run_dir} is the run that is extended and stays as it is; choose another run directory.")
    before = run_settings(**{**config["run"], **config["training"], **config.get("distillation", {})})
    after = before.model_copy(update={"steps": steps, "target_perplexity": None})
    after = run_settings(**after.model_dump())
    say(effect_on_schedule(before, after, result["steps"]))
    return train_from_text(after, folder, begin_with=run_dir, say=say, **how)


def effect_on_schedule(before: RunSettings, after: RunSettings, step: int) -> str:
    """One sentence on the learning rate at the step where the second run begins."""
    old, new = before.learning_rate_at(step), after.learning_rate_at(step + 1)
    rises = ", so it jumps up again" if new > 1.01 * old else ""
    return (
        f"Continues from step {step} to {after.steps}: the learning rate ended at {old:.3g}, and the {after.schedule} "
        f"schedule over {after.steps} steps gives {new:.3g} at step {step + 1}{rises}."
    )
