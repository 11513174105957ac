"""What a teacher says at each position: all its logits, its k most probable tokens, or tokens that were sampled.

A loss compares a student with any of the three in the same way, so a teacher may run beside the student (LiveTeacher)
or its outputs may be read from a file. Positions are those of a batch, flattened: row after row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from stlm_kit.errors import UsageError
from stlm_kit.training.divergences import Divergence, LogProbs, Nats

if TYPE_CHECKING:
    from stlm_kit.data.batches import Batch
    from stlm_kit.model.language_model import LanguageModel

Precision = Literal["bf16", "fp16"]
Compared = tuple[Nats, LogProbs | None]
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TeacherOutputs(Protocol):
    """A teacher's distribution at a number of positions.

    vocab_size: of the logits, None where it is not known. temperature: at which the probabilities were
    computed, None where any can be computed. `log_q`: the student's log-probabilities at the same temperature,
    [positions, vocab], in float32 or float64.
    """

    vocab_size: int | None
    temperature: float | None

    def part(self, some: slice) -> TeacherOutputs:
        """The outputs of some positions."""
        ...

    def compare(
        self, log_q: LogProbs, divergence: Divergence, temperature: float, with_gradient: bool = False
    ) -> Compared:
        """The divergence at each position, [positions], connected to the graph of `log_q`.

        with_gradient: and its derivative by the logits whose log-softmax is `log_q`, [positions, vocab], computed
        without a graph; otherwise None.
        """
        ...


@dataclass(frozen=True, eq=False)
class FullLogits:
    """All logits. Log-probabilities will do as well, because a softmax ignores a constant. They serve any
    temperature.
    """

    logits: Float[Tensor, "positions vocab"]
    temperature = None

    @property
    def vocab_size(self) -> int:
        """The number of logits at a position."""
        return self.logits.shape[-1]

    def part(self, some: slice) -> FullLogits:
        """The logits of some positions."""
        return FullLogits(self.logits[some])

    def log_p(self, vocab_size: int, temperature: float) -> LogProbs:
        """The log-probabilities of the first `vocab_size` tokens, in at least float32."""
        logits = self.logits[:, :vocab_size].to(torch.promote_types(self.logits.dtype, torch.float32))
        found = (logits if temperature == 1 else logits / temperature).log_softmax(-1)
        return found.clamp_(min=torch.finfo(found.dtype).min)  # a token that is excluded gives 0 log 0 = 0, not NaN

    def compare(
        self, log_q: LogProbs, divergence: Divergence, temperature: float, with_gradient: bool = False
    ) -> Compared:
        """See TeacherOutputs."""
        log_p = self.log_p(log_q.shape[-1], temperature)
        nats = divergence.nats(log_p, log_q)
        if not with_gradient:
            return nats, None
        by_log_q = divergence.by_log_q(log_p, log_q)
        return nats, by_log_q.addcmul_(log_q.exp(), by_log_q.sum(-1, keepdim=True), value=-1)


@dataclass(frozen=True, eq=False)
class TopK:
    """The k most probable tokens, and the probability of all others together, as one more outcome.

    Both distributions are reduced to these k + 1 outcomes. So the probabilities add up to 1 and no divergence is
    negative; each is at most that of all tokens. Without the last outcome, a KL over k tokens can be negative, and
    renormalized probabilities teach the student that the other tokens are impossible.

    ids: distinct tokens, fewer than the vocabulary. log_tail: the log-sum-exp over all other tokens.
    """

    ids: Int[Tensor, "positions k"]
    log_probs: Float[Tensor, "positions k"]
    log_tail: Float[Tensor, " positions"]
    temperature: float = 1.0
    vocab_size: int | None = None

    @classmethod
    def of(cls, logits: Float[Tensor, "positions vocab"], k: int, temperature: float = 1.0) -> TopK:
        """The k largest of all logits. UsageError unless 1 <= k < vocab."""
        if not 1 <= k < logits.shape[-1]:
            raise UsageError(f"k = {k!r} will not do; give 1 to {logits.shape[-1] - 1}, or take all logits.")
        log_p = FullLogits(logits).log_p(logits.shape[-1], temperature)
        log_probs, ids = log_p.topk(k)
        return cls(ids, log_probs, _without(log_p, ids).logsumexp(-1), temperature, logits.shape[-1])

    def part(self, some: slice) -> TopK:
        """The outputs of some positions."""
        return replace(self, ids=self.ids[some], log_probs=self.log_probs[some], log_tail=self.log_tail[some])

    def log_p(self, dtype: torch.dtype) -> LogProbs:
        """The log-probabilities of the k tokens and of all others, [positions, k + 1]."""
        return torch.cat([self.log_probs, self.log_tail[:, None]], -1).to(dtype)

    def _coarse(self, log_q: LogProbs) -> LogProbs:
        """The student's log-probabilities of the same k + 1 outcomes."""
        tail = _without(log_q, self.ids).logsumexp(-1, keepdim=True)  # 1 - sum would lose the digits of a small tail
        return torch.cat([log_q.gather(-1, self.ids), tail], -1)

    def compare(
        self, log_q: LogProbs, divergence: Divergence, temperature: float, with_gradient: bool = False
    ) -> Compared:
        """See TeacherOutputs. The derivative by the log q of all others is distributed over them by softmax."""
        log_p, coarse = self.log_p(log_q.dtype), self._coarse(log_q)
        nats = divergence.nats(log_p, coarse)
        if not with_gradient:
            return nats, None
        by_coarse = divergence.by_log_q(log_p, coarse)
        found = _without(log_q, self.ids).sub_(coarse[:, -1:]).exp_().mul_(by_coarse[:, -1:])
        found.scatter_(-1, self.ids, by_coarse[:, :-1])
        return nats, found.addcmul_(log_q.exp(), by_coarse.sum(-1, keepdim=True), value=-1)


def _without(scores: Tensor, ids: Tensor) -> Tensor:
    """A copy of the scores in which these tokens are excluded."""
    return scores.scatter(-1, ids, -torch.inf)


@dataclass(frozen=True, eq=False)
class Sampled:
    """Tokens drawn from the teacher, with weights whose expectation is the probability of each token.

    With k draws from the teacher itself every weight is 1 / k. With draws from another distribution r the weight is
    p / (k r). The expected loss and gradient are those of all logits (Anshumann et al. 2025, ACL 2025.acl-long.885,
    compare this with top-k).
    Only the forward KL is linear in p, so only its expectation is right. Others raise UsageError.

    entropy: the teacher's own, in nats at each position. With it the value is an unbiased estimate of the forward KL,
    which can be negative for one draw. Without it the value is the cross-entropy against the teacher, which is larger
    by that entropy and has the same gradient.
    """

    ids: Int[Tensor, "positions k"]
    weights: Float[Tensor, "positions k"]
    entropy: Float[Tensor, " positions"] | None = None
    temperature: float = 1.0
    vocab_size: int | None = None

    @classmethod
    def of(
        cls,
        logits: Float[Tensor, "positions vocab"],
        k: int,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Sampled:
        """k draws with replacement from all logits, and the exact entropy. UsageError for k below 1."""
        if k < 1:
            raise UsageError(f"k = {k!r} will not do; draw 1 token or more.")
        log_p = FullLogits(logits).log_p(logits.shape[-1], temperature)
        p = log_p.exp()
        ids = torch.multinomial(p, k, replacement=True, generator=generator)
        weights = torch.full_like(log_p[:, :1], 1 / k).expand(-1, k)
        return cls(ids, weights, -(p * log_p).sum(-1), temperature, logits.shape[-1])

    def part(self, some: slice) -> Sampled:
        """The outputs of some positions."""
        entropy = None if self.entropy is None else self.entropy[some]
        return replace(self, ids=self.ids[some], weights=self.weights[some], entropy=entropy)

    def compare(
        self, log_q: LogProbs, divergence: Divergence, temperature: float, with_gradient: bool = False
    ) -> Compared:
        """See TeacherOutputs. UsageError for another divergence than the forward KL."""
        if divergence.name != "forward_kl":
            raise UsageError(
                f"The {divergence.name} needs the teacher's probability of every token, and sampled outputs have only "
                "draws; use forward_kl, or outputs of top-k or all logits."
            )
        weights = self.weights.to(log_q.dtype)
        nats = -(weights * log_q.gather(-1, self.ids)).sum(-1)
        if self.entropy is not None:
            nats = nats - self.entropy
        if not with_gradient:
            return nats, None
        return nats, log_q.exp().mul_(weights.sum(-1, keepdim=True)).scatter_add_(-1, self.ids, -weights)


@dataclass(frozen=True, eq=False)
class LiveLogits:
    """The logits of a teacher's features, computed for some positions when they are needed."""

    features: Float[Tensor, "positions d_model"]
    weight: Float[Tensor, "vocab d_model"]
    bias: Float[Tensor, " vocab"] | None
    temperature = None

    @property
    def vocab_size(self) -> int:
        """The number of logits at a position."""
        return len(self.weight)

    def part(self, some: slice) -> FullLogits:
        """The logits of some positions."""
        with torch.no_grad(), torch.autocast(self.features.device.type, enabled=False):
            return FullLogits(F.linear(self.features[some], self.weight, self.bias))

    def compare(
        self, log_q: LogProbs, divergence: Divergence, temperature: float, with_gradient: bool = False
    ) -> Compared:
        """See TeacherOutputs."""
        return self.part(slice(None)).compare(log_q, divergence, temperature, with_gradient)


class LiveTeacher(nn.Module):
    """A model that teaches: frozen, in eval mode, without a graph, in a precision of its own.

    precision: "bf16" or "fp16" for matrix products under autocast; None for the type of its weights. The student's
    recipe has no effect on it. UsageError for another precision, and for a model without features and a head.
    """

    def __init__(self, model: LanguageModel, precision: Precision | None = None) -> None:
        super().__init__()
        if not hasattr(model, "features") or not hasattr(model, "head"):
            raise UsageError(f"{type(model).__name__} has no features and head to teach with; give a model that does.")
        if precision is not None and precision not in HALVES:
            raise UsageError(f"A teacher's precision is bf16, fp16 or None, not {precision!r}; choose one of them.")
        self.model, self.precision = model.requires_grad_(False).eval(), precision

    def train(self, mode: bool = True) -> LiveTeacher:
        """A teacher stays in eval mode: its dropout would make it another teacher at each step."""
        return super().train(False)

    def outputs(self, batch: Batch) -> LiveLogits:
        """Its logits."""
        return self.outputs_and_streams(batch, None)[0]

    @torch.no_grad()
    def outputs_and_streams(self, batch: Batch, layers: list[int] | None) -> tuple[LiveLogits, list[Tensor]]:
        """Its logits, and its streams after these many layers, [batch, seq, d_model] each."""
        kind, half = batch.ids.device.type, HALVES.get(self.precision)
        with torch.autocast(kind, dtype=half, enabled=half is not None):
            if layers is None:
                features, streams = self.model.features(batch.ids, batch.documents), []
            else:
                features, streams = self.model.features(batch.ids, batch.documents, layers=layers)
        head = self.model.head
        low = half or head.weight.dtype
        bias = None if head.bias is None else head.bias.to(low)
        return LiveLogits(features.flatten(0, 1).to(low), head.weight.to(low), bias), streams

    def describe(self) -> dict:
        """What a run's configuration says of it. Its weights are hashed there."""
        return {"model": self.model.config.model_dump(mode="json"), "precision": self.precision}
