"""The training loop: steps 1 to N, each a pure function of the seed, the step's number and the weights before it.

No random state passes from one step to the next: batches are numbered, and the generator is seeded for each step. So a
run that is killed and resumed computes what an uninterrupted run computes: bit for bit on a CPU, and on a GPU where
`deterministic` is set.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from stlm_kit.errors import Interrupted, KitError, UsageError
from stlm_kit.interrupts import StopRequests
from stlm_kit.progress import Progress
from stlm_kit.training.checkpoint import latest_checkpoint, restore, save_checkpoint
from stlm_kit.training.determinism import repeatable, step_seed
from stlm_kit.training.optimizer import build_optimizer, set_learning_rate
from stlm_kit.training.recipe import Recipe
from stlm_kit.training.run_folder import RunFolder
from stlm_kit.training.settings import TrainingSettings
from stlm_kit.training.step import Step
from stlm_kit.training.trainable import describe_loss, ready, train_only

if TYPE_CHECKING:
    from stlm_kit.data.batches import BatchSource
    from stlm_kit.model.language_model import LanguageModel
    from stlm_kit.training.loss import Loss


@dataclass
class TrainResult:
    """The outcome of a run: `metrics` as in metrics.jsonl, `result` as in result.json, and the trained `model`.

    Times are in seconds. In a row, `training_seconds` is the time of its step: making the batches, computing, and
    reading the loss, which waits for the device. `evaluation_seconds` is the time of the evaluation after the step, if
    there was one. The result has the sums over all rows; None where an older kit that did not record them began the
    run. `seconds` is the time of the whole loop, with samples and checkpoints. All are summed over the processes of a
    run. `tokens_per_second`: the real targets divided by `training_seconds`, in a row and in the result.
    """

    model: LanguageModel
    metrics: list[dict]
    result: dict = field(default_factory=dict)
    run_dir: Path | None = None

    @property
    def losses(self) -> list[float]:
        """The training loss of each step, in nats a token."""
        return [row["loss"] for row in self.metrics if "loss" in row]

    @property
    def validation(self) -> list[tuple[int, dict]]:
        """(step, result of `evaluate`) for each evaluation."""
        return [(row["step"], row["validation"]) for row in self.metrics if "validation" in row]


def train(
    model: LanguageModel,
    batches: BatchSource,
    settings: TrainingSettings,
    *,
    loss: Loss | None = None,
    run_dir: Path | str | None = None,
    evaluate: Callable[[LanguageModel], dict[str, float | str]] | None = None,
    sample: Callable[[LanguageModel], str] | None = None,
    about: dict | None = None,
    keep: Callable[[Path], object] | None = None,
    loggers: Sequence[Callable[[dict], None]] = (),
    progress: bool = True,
) -> TrainResult:
    """Train `model` in place, on its device. Step i takes the next batches of `batches(seed, number)`.

    loss: `loss(model, batch, step)` returns a `LossValue` (default: the next token's cross-entropy, as the recipe
    says). A loss that is a module is moved to the model's device. Its trainable parameters are trained, clipped and
    saved in checkpoints with the model's. Its frozen ones (a teacher) are hashed into the run's configuration and not
    saved. run_dir: where everything is written. A finished run there is not repeated, and an interrupted one resumes
    from its checkpoint. Without a folder nothing is written. evaluate: `evaluate(model)` returns a row of figures;
    `target_perplexity` compares its "perplexity". sample: `sample(model)` returns a text. about: added to the run's
    configuration (corpus, tokenizer). keep: `keep(folder)` writes, before the first step, what is needed to use the run
    (the tokenizer). loggers: each is called with each row.

    Raises Interrupted after a signal, when the state is saved. KitError when a loss is not finite (with the step; the
    last good checkpoint stays), when the folder belongs to another run, or when the disk is full.
    """
    loop = _Loop(model, batches, settings, loss, evaluate, sample, loggers, progress)
    if run_dir is None:
        return loop.run(None)
    with RunFolder(run_dir, loop.configuration(about or {})) as folder:
        if keep:
            keep(folder.path)
        return loop.run(folder)


class _Loop:
    def __init__(self, model, batches, settings, loss, evaluate, sample, loggers, progress):
        self.model, self.batches, self.settings = model, batches, settings
        train_only(model, settings.trainable)
        self.loss = ready(loss.to(next(model.parameters()).device) if isinstance(loss, torch.nn.Module) else loss)
        self.evaluate, self.sample, self.loggers, self.progress = evaluate, sample, loggers, progress
        self.recipe = Recipe.named(settings.recipe)
        self.metrics: list[dict] = []
        self.seconds_before = 0.0

    def configuration(self, about: dict) -> dict:
        """The content of config.json: everything that changes the numbers, and `made_by`, the code that made them."""
        return {
            **about,
            "model": self.model.config,
            "training": self.settings,
            "recipe": self.recipe.describe(),
            "batches": self.batches.description,
            **({} if self.loss is None else {"loss": describe_loss(self.loss)}),
        }

    def run(self, folder: RunFolder | None) -> TrainResult:
        settings = self.settings
        optimizer = build_optimizer(self.model, settings, self.recipe, self.loss)
        step = Step(self.model, optimizer, self.recipe, clip=settings.clip, compile=settings.compile, loss=self.loss)
        device = step.device
        if reason := self.recipe.unsuitable(device.type):
            raise UsageError(reason)
        first = self._resume(folder, step) if folder else 0
        if folder and (done := folder.result):
            return TrainResult(self.model, self.metrics, done, folder.path)
        started = time.perf_counter() - self.seconds_before
        bar = Progress(first, settings.steps, enabled=self.progress)
        number, reached = first, bool(self.metrics) and self._reached(self.metrics[-1])
        self.model.train()
        try:
            with repeatable(device, settings.deterministic), StopRequests() as stop:
                for number in range(first + 1, settings.steps + 1) if not reached else ():
                    row = self._one_step(step, number, bar)
                    self._look(row, number)
                    self._note(row, folder)
                    reached = self._reached(row)
                    last = number == settings.steps or reached
                    due = settings.checkpoint_every and number % settings.checkpoint_every == 0
                    if folder and (due or last or stop.requested):
                        state = {"seconds": time.perf_counter() - started}
                        state |= {"scaler": step.scaler.state_dict()} if step.scaler else {}
                        save_checkpoint(folder.path / "checkpoint", number, self.model, optimizer, state, self.loss)
                    if last:
                        break
                    if stop.requested:
                        where = f"its state is in {folder.path}" if folder else "nothing was kept (no run directory)"
                        raise Interrupted(
                            f"Stopped by {stop.requested} after step {number}; {where}, the same command goes on."
                        )
        finally:
            bar.close()
            self.model.eval()
        stopped = "target_perplexity" if reached else "steps"
        result = self._result(number, stopped, time.perf_counter() - started)
        if folder:
            folder.finish(result)
        return TrainResult(self.model, self.metrics, result, folder.path if folder else None)

    def _resume(self, folder: RunFolder, step: Step) -> int:
        """Restore the folder's checkpoint, if any, and cut the metrics back to it. Returns the step reached."""
        checkpoint = latest_checkpoint(folder.path / "checkpoint")
        if checkpoint is None and folder.result:
            raise KitError(
                f"The run in {folder.path} is finished but its checkpoint is gone; restore it, or choose a new run "
                "directory to train again."
            )
        if checkpoint is None:
            self.metrics = folder.metrics(up_to_step=0)
            return 0
        state = restore(checkpoint, self.model, step.optimizer, self.loss)
        if step.scaler:
            step.scaler.load_state_dict(state["scaler"])
        self.metrics = folder.metrics(up_to_step=state["step"])
        self.seconds_before = state["seconds"]
        return state["step"]

    def _one_step(self, step: Step, number: int, bar: Progress) -> dict:
        settings, started = self.settings, time.perf_counter()
        torch.manual_seed(step_seed(settings.seed, number))  # dropout draws the same masks after a resume
        dropout = settings.dropout_at(number, self.model.config.dropout)
        self.model.set_dropout(dropout)
        set_learning_rate(step.optimizer, settings.learning_rate_at(number))
        first = (number - 1) * settings.accumulation_steps
        batches = [self.batches(settings.seed, first + i) for i in range(settings.accumulation_steps)]
        loss = float(step(batches, number))
        norm = None if step.gradient_norm is None else float(step.gradient_norm)
        overflowed = norm is not None and not math.isfinite(norm)
        if overflowed and step.scaler:  # fp16's scaler skipped this step and lowers its scale
            norm = None
        elif not math.isfinite(loss) or overflowed:
            raise KitError(
                f"The loss or its gradient is not finite at step {number} (loss {loss}, gradient norm {norm}); the "
                "last checkpoint is kept; lower the learning rate, clip, or look at that step's batch."
            )
        seconds = time.perf_counter() - started  # reading the loss waited for the device
        real_targets = sum(batch.real_targets for batch in batches)
        bar.update(loss, real_targets, seconds)
        row = {
            "step": number,
            "loss": loss,
            "learning_rate": settings.learning_rate_at(number),
            "gradient_norm": norm,
            "dropout": dropout,
            "tokens": real_targets,
            "valid_fraction": real_targets / sum(batch.targets.numel() for batch in batches),
            "training_seconds": round(seconds, 6),
            "tokens_per_second": round(real_targets / seconds, 1),
        }
        if hidden := sorted(row.keys() & step.logged.keys()):
            raise UsageError(f"The loss logs {hidden[0]!r}, which is a figure of the step itself; call it otherwise.")
        return row | {name: float(value) for name, value in step.logged.items()}

    def _look(self, row: dict, number: int) -> None:
        """Evaluate and sample where they are due, and add the results to the step's row."""
        settings = self.settings
        self.model.eval()
        last = number == settings.steps
        if self.evaluate and (last or (settings.eval_every and number % settings.eval_every == 0)):
            started = time.perf_counter()
            row["validation"] = self.evaluate(self.model)
            row["evaluation_seconds"] = round(time.perf_counter() - started, 6)
        if self.sample and (last or (settings.sample_every and number % settings.sample_every == 0)):
            row["sample"] = self.sample(self.model)
        self.model.train()

    def _reached(self, row: dict) -> bool:
        """Whether a row's evaluation reached the target perplexity."""
        target = self.settings.target_perplexity
        return target is not None and row.get("validation", {}).get("perplexity", math.inf) <= target

    def _note(self, row: dict, folder: RunFolder | None) -> None:
        self.metrics.append(row)
        if folder:
            folder.append(row)
        for logger in self.loggers:
            logger(row)

    def _result(self, number: int, reason: str, seconds: float) -> dict:
        evaluations = [row for row in self.metrics if "validation" in row]
        training_s, tokens = _sum("training_seconds", self.metrics), sum(row["tokens"] for row in self.metrics)
        return {
            "steps": number,
            "stopped": reason,
            "loss": self.metrics[-1]["loss"],
            "validation": evaluations[-1]["validation"] if evaluations else None,
            "tokens": tokens,
            "training_seconds": training_s,
            "evaluation_seconds": _sum("evaluation_seconds", evaluations),
            "seconds": round(seconds, 4),
            "tokens_per_second": round(tokens / training_s, 1) if training_s else None,
            "device": str(next(self.model.parameters()).device),
            "recipe": self.recipe.name,
        }


def _sum(name: str, rows: list[dict]) -> float | None:
    """The sum of seconds over rows, or None where a row lacks them."""
    return round(sum(row[name] for row in rows), 4) if all(name in row for row in rows) else None
