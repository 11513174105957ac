"""Distillation: a loss that compares a student with a teacher at every real target (Hinton et al. 2015).

    loss = DistillationLoss(teacher, alpha=0.3, beta=0.7, temperature=2.0)
    train(student, batches, settings, loss=loss)

A teacher is a model that runs along, or anything with `outputs(batch)` that gives what a teacher said about these rows.
"""

from __future__ import annotations

import inspect
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from stlm_kit.data.batches import IGNORE, Batch
from stlm_kit.errors import UsageError
from stlm_kit.model.language_model import LanguageModel
from stlm_kit.training.divergences import Divergence, LogProbs, Nats, divergence_named
from stlm_kit.training.hidden_states import HiddenStates
from stlm_kit.training.label_loss import (
    LabelLoss,
    PositionLosses,
    at_temperature,
    check_has_head,
    check_number,
    check_temperature,
    summed,
)
from stlm_kit.training.loss import LossValue
from stlm_kit.training.schedules import Schedule
from stlm_kit.training.teacher_outputs import LiveTeacher, TeacherOutputs


class CachedTeacher(Protocol):
    """Where a teacher's outputs come from without the teacher.

    `outputs(batch)` returns those of the batch's positions, on the device of `batch.ids`. `batch.rows` are the rows of
    the token file, so what is read is found by them; a field of a batch of your own will do as well. `describe()` says
    what was read (a content hash), for the run's configuration.
    """

    def outputs(self, batch: Batch) -> TeacherOutputs: ...

    def describe(self) -> dict: ...


class DistillationLoss(nn.Module):
    """alpha * cross-entropy + beta * T^2 * divergence from the teacher + weight * distance of hidden states.

    Each is a sum over real targets (times `batch.weights`), and the step divides by their number. Padding gives neither
    loss nor count. With micro-batches both are summed over all of them. The first two are in nats.

    teacher: a model (wrapped into a `LiveTeacher`, which freezes it), a LiveTeacher, or a CachedTeacher. alpha, beta:
    the factors, each a number or a `Schedule`; the beta of Schedule(start=0.7, warmup_steps=1000) rises from 0.
    divergence: "forward_kl", "reverse_kl" or "jensen_shannon" (divergences.py), with `jsd_beta` the teacher's share of
    the mixture. temperature: T, of both softmaxes in the divergence; labels keep their own. t_squared: whether the
    divergence is multiplied by T^2. Its gradient shrinks with 1 / T^2, so without the factor a higher temperature gives
    the labels more weight (Hinton et al. 2015, section 2). labels: the label loss, with smoothing if you want it.
    hidden: matching of hidden states, with a live teacher only. vocab_size: of the tokenizer. Where teacher and student
    are padded to different sizes, both are cut to it: the logits above it are outside of both softmaxes, and the
    student's stay untrained. chunked: neither has all its logits at once. False is the specification of the same loss,
    for small sizes.

    The value of the divergence is 0 where the student has learned the teacher's distribution, except for sampled
    outputs without an entropy: there the value is the cross-entropy against the teacher. A step's row has, in nats a
    token, `cross_entropy` (of the labels, without smoothing and temperature, comparable with any training loss) and
    `divergence` (without beta and T^2); with hidden states, `hidden_distance`; with a scheduled factor, that factor.
    The sum itself, `loss`, compares with no cross-entropy.

    UsageError with one sentence for settings out of range, and for a teacher that does not fit the student.
    """

    def __init__(
        self,
        teacher: LanguageModel | LiveTeacher | CachedTeacher,
        *,
        alpha: float | Schedule = 0.0,
        beta: float | Schedule = 1.0,
        divergence: str = "forward_kl",
        jsd_beta: float = 0.5,
        temperature: float = 1.0,
        t_squared: bool = True,
        labels: LabelLoss | None = None,
        hidden: HiddenStates | None = None,
        vocab_size: int | None = None,
        chunked: bool = True,
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        for name, value in (("alpha", alpha), ("beta", beta)):
            for end in (value.start, value.end or 0.0) if isinstance(value, Schedule) else (value,):
                check_number(name, end, 0)
        if alpha == beta == 0 and hidden is None:
            raise UsageError("alpha and beta are both 0, so there is nothing to train; give one of them a weight.")
        self.teacher = LiveTeacher(teacher) if isinstance(teacher, LanguageModel) else teacher
        if not hasattr(self.teacher, "outputs"):
            raise UsageError(
                f"{type(teacher).__name__} is no teacher; give a model, or what has outputs(batch) (CachedTeacher)."
            )
        if hidden is not None and not isinstance(self.teacher, LiveTeacher):
            raise UsageError("Cached outputs hold no hidden states; give the teacher itself, or leave hidden out.")
        self.alpha, self.beta, self.temperature, self.t_squared = alpha, beta, temperature, t_squared
        self.divergence, self.jsd_beta = divergence_named(divergence, jsd_beta), jsd_beta
        self.labels, self.hidden, self.vocab_size, self.chunked = labels or LabelLoss(), hidden, vocab_size, chunked

    def forward(self, model: LanguageModel, batch: Batch, step: int) -> LossValue:
        """The summed loss of a batch."""
        check_has_head(model)
        outputs, theirs = self._of_teacher(model, batch)
        vocab_size = self._check_fit(outputs, len(model.head.weight))
        alpha, beta = _at(self.alpha, step), _at(self.beta, step)
        losses = _Compared(batch, self, outputs, alpha, beta)
        if self.hidden is None:
            nats = summed(losses, model.features(batch.ids, batch.documents), model.head, vocab_size, self.chunked)
        else:
            students = [student for student, _ in self.hidden.layers]
            features, mine = model.features(batch.ids, batch.documents, layers=students)
            nats = summed(losses, features, model.head, vocab_size, self.chunked)
            distance = self.hidden(mine, theirs)
            if batch.weights is not None:
                distance = distance * batch.weights
            distance = distance.masked_fill(batch.targets == IGNORE, 0).sum()
            nats = nats + self.hidden.weight * distance
            losses.logged["hidden_distance"] = distance.detach()
        for name, value, now in (("alpha", self.alpha, alpha), ("beta", self.beta, beta)):
            if isinstance(value, Schedule):
                losses.logged[name] = now * batch.weight
        return LossValue(nats, batch.weight, losses.logged)

    def _of_teacher(self, model: LanguageModel, batch: Batch) -> tuple[TeacherOutputs, list[Tensor]]:
        """The teacher's outputs and the streams to match. Its activations are gone before the student's exist."""
        if not isinstance(self.teacher, LiveTeacher):
            with torch.no_grad():
                return self.teacher.outputs(batch), []
        if self.teacher.model is model:
            raise UsageError("The teacher is the student itself, which is frozen now; load or copy one of them.")
        if self.hidden is None:
            return self.teacher.outputs(batch), []
        for each in (model, self.teacher.model):
            if "layers" not in inspect.signature(each.features).parameters:
                raise UsageError(f"{type(each).__name__} gives no streams of its layers; leave hidden out.")
        return self.teacher.outputs_and_streams(batch, [teacher for _, teacher in self.hidden.layers])

    def _check_fit(self, outputs: TeacherOutputs, of_student: int) -> int | None:
        """The number of logits to keep of both, None for all. UsageError where the outputs do not fit."""
        if outputs.temperature not in (None, self.temperature):
            raise UsageError(
                f"The teacher's outputs were made at temperature {outputs.temperature} and the loss has "
                f"{self.temperature}; make them again, or set the same."
            )
        of_teacher, compared = outputs.vocab_size or self.vocab_size or of_student, self.vocab_size or of_student
        if outputs.temperature is not None and of_teacher != compared:  # k tokens of other softmaxes
            raise UsageError(
                f"The teacher's outputs were made for {of_teacher:,} tokens and the loss compares {compared:,}; make "
                "them again, or give the size of the tokenizer as vocab_size."
            )
        if self.vocab_size is not None and self.vocab_size > min(of_teacher, of_student):
            raise UsageError(
                f"vocab_size = {self.vocab_size:,} is more than the {min(of_teacher, of_student):,} logits of the "
                "teacher or the student; give the size of the tokenizer that both use."
            )
        if self.vocab_size is None and of_teacher != of_student:
            raise UsageError(
                f"The teacher has {of_teacher:,} logits and the student {of_student:,}; if both use one tokenizer, "
                "give its size as vocab_size, and the padding above it is cut. Otherwise they cannot be compared."
            )
        return None if self.vocab_size == of_student else self.vocab_size

    def describe(self) -> dict[str, Any]:
        """Every setting, for a run's configuration."""
        return {
            "teacher": self.teacher.describe() if hasattr(self.teacher, "describe") else type(self.teacher).__name__,
            "alpha": _described(self.alpha),
            "beta": _described(self.beta),
            "divergence": self.divergence.name,
            "jsd_beta": self.jsd_beta,
            "temperature": self.temperature,
            "t_squared": self.t_squared,
            "labels": self.labels.describe(),
            "hidden": None if self.hidden is None else self.hidden.describe(),
            "vocab_size": self.vocab_size,
        }


class _Compared(PositionLosses):
    """The losses of a batch's positions: of the labels, and of the teacher's outputs."""

    def __init__(self, batch: Batch, loss: DistillationLoss, outputs: TeacherOutputs, alpha: float, beta: float):
        super().__init__(batch, loss.labels, alpha)
        self.outputs, self.temperature = outputs, loss.temperature
        self.divergence: Divergence = loss.divergence
        self.factor = beta * loss.temperature**2 if loss.t_squared else beta

    def at(self, log_q: LogProbs, some: slice, with_gradient: bool) -> tuple[Nats, LogProbs | None]:
        """See PositionLosses."""
        softened = at_temperature(log_q, self.temperature)
        wanted = with_gradient and self.factor > 0
        found, more = self.outputs.part(some).compare(softened, self.divergence, self.temperature, wanted)
        self.log("divergence", found, some)
        del softened  # before the labels take as much
        nats, gradient = super().at(log_q, some, with_gradient)
        if more is not None:
            more *= self.factor / self.temperature
            gradient = more if gradient is None else gradient.add_(more)
        return nats + self.factor * found, gradient


def _at(value: float | Schedule, step: int) -> float:
    return value.at(step) if isinstance(value, Schedule) else value


def _described(value: float | Schedule) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Schedule) else value
