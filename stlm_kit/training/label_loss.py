"""Losses of hard labels that differ from the plain cross-entropy: label smoothing, and a temperature without a teacher.

They are no distillation. A study compares them with it: if they gain as much, the cause was not what the teacher
knows.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from stlm_kit.data.batches import IGNORE, Batch
from stlm_kit.errors import UsageError
from stlm_kit.model.language_model import LanguageModel
from stlm_kit.training.divergences import LogProbs, Nats
from stlm_kit.training.loss import LossValue, in_chunks

Targets = Int[Tensor, " positions"]


@dataclass(frozen=True)
class LabelLoss:
    """The cross-entropy of softmax(logits / temperature) with smoothed labels.

    smoothing: the share of a label's probability that all V tokens get in equal parts, as `F.cross_entropy` defines it
    (Szegedy et al. 2016, section 7). temperature: of the student's softmax alone; there is no factor T^2, and the
    model is evaluated without the temperature. chunked: computed without ever holding all logits; False is the
    specification of it, for small sizes.

    A step's row has `cross_entropy` as well, in nats a token: without smoothing and temperature, so that it compares
    with other losses. Raises UsageError for a smoothing outside [0, 1) and a temperature of 0 or less.
    """

    smoothing: float = 0.0
    temperature: float = 1.0
    chunked: bool = True

    def __post_init__(self) -> None:
        check_number("smoothing", self.smoothing, 0, below=1)
        check_temperature(self.temperature)

    def __call__(self, model: LanguageModel, batch: Batch, step: int) -> LossValue:
        check_has_head(model)
        losses = PositionLosses(batch, self, alpha=1.0)
        nats = summed(losses, model.features(batch.ids, batch.documents), model.head, None, self.chunked)
        return LossValue(nats, batch.weight, losses.logged)

    def nats(self, log_q: LogProbs, targets: Targets) -> Nats:
        """The loss of each position from log-probabilities at the temperature, connected to their graph."""
        of_label = -log_q.gather(-1, targets[:, None])[:, 0]
        if not self.smoothing:
            return of_label
        return (1 - self.smoothing) * of_label - self.smoothing * log_q.mean(-1)

    def gradient(self, log_q: LogProbs, targets: Targets) -> LogProbs:
        """The derivative of `nats` by the logits whose log-softmax is `log_q`: softmax minus the smoothed label."""
        found = log_q.exp()
        if self.smoothing:
            found -= self.smoothing / log_q.shape[-1]
        return found.scatter_add_(-1, targets[:, None], found.new_full((len(found), 1), self.smoothing - 1))

    def describe(self) -> dict:
        """The settings, for a run's configuration."""
        return asdict(self)


class PositionLosses:
    """The losses of a batch's positions: `alpha` times the labels'. A subclass adds others.

    It is computed either by `plain`, for all logits with autograd, or by `put_gradient`, for the logits of a few
    positions at a time (see `in_chunks`). `logged` has the sums of other figures.
    """

    def __init__(self, batch: Batch, labels: LabelLoss, alpha: float) -> None:
        self.targets = batch.targets.flatten()
        self.weights = None if batch.weights is None else batch.weights.flatten()
        self.labels, self.alpha = labels, alpha
        self.logged: dict[str, float | Tensor] = {}

    def plain(self, logits: Float[Tensor, "positions vocab"]) -> Float[Tensor, ""]:
        """The summed loss of all positions, connected to the graph of the logits."""
        everywhere = slice(None)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return self._summed(self.at(logits.log_softmax(-1), everywhere, with_gradient=False)[0], everywhere)

    def put_gradient(self, logits: Float[Tensor, "positions vocab"], some: slice) -> Float[Tensor, ""]:
        """The summed loss of some positions. Its gradient overwrites their logits."""
        log_q = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        nats, gradient = self.at(log_q, some, with_gradient=True)
        if gradient is None:
            logits.zero_()
        else:
            if self.weights is not None:
                gradient *= self.weights[some][:, None]
            logits.copy_(gradient.masked_fill_(self._padding(some)[:, None], 0))
        return self._summed(nats, some)

    def at(self, log_q: LogProbs, some: slice, with_gradient: bool) -> tuple[Nats, LogProbs | None]:
        """The loss of some positions and, if asked for, its derivative by their logits (None where it is 0).

        log_q: the student's log-probabilities at temperature 1. Padding may get any value.
        """
        targets, labels = self.targets[some].clamp(min=0), self.labels
        plain = -log_q.gather(-1, targets[:, None])[:, 0]
        self.log("cross_entropy", plain, some)
        if not self.alpha:
            return torch.zeros_like(plain), None
        softened = at_temperature(log_q, labels.temperature)
        nats = self.alpha * labels.nats(softened, targets)
        if not with_gradient:
            return nats, None
        return nats, labels.gradient(softened, targets).mul_(self.alpha / labels.temperature)

    def log(self, name: str, nats: Nats, some: slice) -> None:
        """Add to the sum of a figure."""
        self.logged[name] = self.logged.get(name, 0.0) + self._summed(nats.detach(), some)

    def _padding(self, some: slice) -> Tensor:
        return self.targets[some] == IGNORE

    def _summed(self, nats: Nats, some: slice) -> Float[Tensor, ""]:
        """The sum over real targets. Padding is replaced: multiplied by 0, a NaN would stay."""
        if self.weights is not None:
            nats = nats * self.weights[some]
        return nats.masked_fill(self._padding(some), 0).sum()


def at_temperature(log_q: LogProbs, temperature: float) -> LogProbs:
    """Log-probabilities at a temperature from those at temperature 1."""
    return log_q if temperature == 1 else (log_q / temperature).log_softmax(-1)


def summed(
    losses: PositionLosses, features: Float[Tensor, "batch seq d_model"], head: nn.Linear, vocab_size: int | None,
    chunked: bool,
) -> Float[Tensor, ""]:  # fmt: skip
    """The summed loss of the positions with these features. vocab_size: of the logits that count, None for all."""
    weight = head.weight if vocab_size is None else head.weight[:vocab_size]
    bias = head.bias if head.bias is None or vocab_size is None else head.bias[:vocab_size]
    if chunked:
        return in_chunks(features.flatten(0, 1), weight, bias, losses.put_gradient)
    return losses.plain(F.linear(features.flatten(0, 1), weight, bias))


def check_has_head(model: LanguageModel) -> None:
    """Raise UsageError for a model without features and a head."""
    if not hasattr(model, "features") or not hasattr(model, "head"):
        raise UsageError(
            f"{type(model).__name__} has no features and head that this loss could use; leave the loss out."
        )


def check_number(name: str, value: object, least: float, below: float = math.inf) -> None:
    """Raise UsageError unless a value is a number with least <= value < below."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < below:
        most = "" if below == math.inf else f" and less than {below}"
        raise UsageError(f"{name} = {value!r} will not do; give a number of at least {least}{most}.")


def check_temperature(value: object) -> None:
    """Raise UsageError unless a value is a number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UsageError(f"temperature = {value!r} will not do; give a number above 0.")
