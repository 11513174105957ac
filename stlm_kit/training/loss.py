"""Losses: of any model and batch (`Loss`), and the next token's cross-entropy of (features, head, targets).

With these three arguments, a loss can decide how many logits exist at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from stlm_kit.data.batches import IGNORE, Batch
from stlm_kit.errors import UsageError
from stlm_kit.model.language_model import LanguageModel
from stlm_kit.training.recipe import Recipe

Weights = Float[Tensor, "batch seq"] | None  # the weight of each target; None: 1


class LossValue(NamedTuple):
    """The loss of one batch as summed nats, so that sums over micro-batches add up to the loss of their union.

    nats: the sum, a scalar connected to the autograd graph. count: the divisor (real targets, or the sum of their
    weights), a number or a scalar tensor. Over several micro-batches, the sum of nats is divided by the sum of counts.
    log: sums of other figures, recorded in the step's row after division by the same count.
    """

    nats: Float[Tensor, ""]
    count: float | Tensor
    log: Mapping[str, float | Tensor] = {}


class Loss(Protocol):
    """A loss for `train` or `Step`: a function, or a module with parameters that are trained as well or frozen."""

    def __call__(self, model: LanguageModel, batch: Batch, step: int) -> LossValue: ...


class NextTokenLoss:
    """The loss of plain training: the cross-entropy of every real target, computed as the recipe says.

    A model without `features` and a `head` scores the batch itself. UsageError for a recipe that needs them.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.over_features = recipe, loss_of(recipe)
        self.nats: Callable[..., Tensor] = self._nats  # torch.compile may replace it

    def __call__(self, model: LanguageModel, batch: Batch, step: int) -> LossValue:
        if not hasattr(model, "features"):
            if (self.recipe.loss, self.recipe.head_positions) != ("plain", "all"):
                raise UsageError(
                    f"{type(model).__name__} computes its own loss, so the recipe {self.recipe.name!r} cannot change "
                    "how; leave out chunked, masked and valid."
                )
            return LossValue(model.score(batch).nats.sum(), batch.weight)
        return LossValue(self.nats(model, batch.ids, batch.targets, batch.documents, batch.weights), batch.weight)

    def _nats(
        self, model: LanguageModel, ids: Tensor, targets: Tensor, documents: Tensor | None, weights: Tensor | None
    ) -> Tensor:
        return self.over_features(model.features(ids, documents), model.head, targets, weights)


def plain_loss(
    features: Float[Tensor, "batch seq d_model"],
    head: nn.Linear,
    targets: Int[Tensor, "batch seq"],
    weights: Weights = None,
) -> Float[Tensor, ""]:
    """Cross-entropy of every real target, summed, in nats: -sum log softmax(head(features))[target], times its weight.

    It is summed and not averaged, so that sums over micro-batches of unequal size add up to the loss of their union.
    Positions whose target is IGNORE (-100) count 0.
    """
    logits = head(features).flatten(0, 1)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # bf16 sums lose digits; float64 stays
    return _cross_entropy(logits, targets.flatten(), weights)


def _cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """The summed nats of logits [positions, vocab]."""
    if weights is None:
        return F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")
    return (F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="none") * weights.flatten()).sum()


def chunked_loss(
    features: Float[Tensor, "batch seq d_model"],
    head: nn.Linear,
    targets: Int[Tensor, "batch seq"],
    weights: Weights = None,
    rows: int | None = None,
) -> Float[Tensor, ""]:
    """`plain_loss` without ever holding all logits: the same loss and gradients, up to the order of sums.

    The gradient of a cross-entropy by its logits is softmax(logits) - onehot(target), times the incoming gradient, a
    scalar. So the forward pass computes logits, loss and gradients for `rows` positions at a time, and keeps only
    gradients of the features' and the head's size. There is no second derivative.
    """
    targets, weights = targets.flatten(), None if weights is None else weights.flatten()

    def put_gradient(logits: Tensor, some: slice) -> Tensor:
        return _put_gradient(logits, targets[some], None if weights is None else weights[some])

    return in_chunks(features.flatten(0, 1), head.weight, head.bias, put_gradient, rows)


def in_chunks(
    features: Float[Tensor, "positions d_model"],
    weight: Float[Tensor, "vocab d_model"],
    bias: Float[Tensor, " vocab"] | None,
    put_gradient: Callable[[Tensor, slice], Tensor],
    rows: int | None = None,
) -> Float[Tensor, ""]:
    """The sum of a loss over positions, whose logits exist for `rows` positions at a time.

    `put_gradient(logits, some)` gets the logits of a few positions and the slice of positions that they belong to. It
    returns their summed loss and overwrites the logits with its gradient. It runs without an autograd graph.
    """
    return _InChunks.apply(features, weight, bias, put_gradient, rows or chunk_rows(features.device.type))


# A prediction of memory replaces the next three functions by name: it computes only a few chunks, each as large as on
# the predicted device.


def chunk_rows(device_type: str) -> int:
    """Positions in a chunk. A GPU needs large matrix products; a processor is as fast with small ones."""
    return 256 if device_type == "cpu" else 1024


def cached_rows(device_type: str, rows: int) -> int:
    """Rows of logits whose loss and gradient are computed together: as many as fit into a processor's cache."""
    return 64 if device_type == "cpu" else rows


def chunk_starts(n_positions: int, rows: int) -> Sequence[int]:
    """The first position of each chunk."""
    return range(0, n_positions, rows)


class _InChunks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features, weight, bias, put_gradient, rows):
        trained = ctx.needs_input_grad[1]  # False for a frozen head
        kind = features.device.type
        low = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else features.dtype
        exact = torch.promote_types(low, torch.float32)
        with torch.autocast(kind, enabled=False):  # cast once instead of once a chunk
            x, w = features.to(low), weight.to(low)
            b = None if bias is None else bias.to(low)
            nats = torch.zeros((), dtype=exact, device=x.device)
            by_features = torch.empty_like(x)
            by_weight = torch.zeros_like(w, dtype=exact) if trained else None
            by_bias = torch.zeros_like(b, dtype=exact) if ctx.needs_input_grad[2] else None
            few = cached_rows(kind, rows)
            buffer = x.new_empty(min(rows, len(x)), len(w))  # the only tensor that holds logits
            for start in chunk_starts(len(x), rows):
                here = x[start : start + rows]
                logits = buffer[: len(here)]
                torch.mm(here, w.T, out=logits) if b is None else torch.addmm(b, here, w.T, out=logits)
                for first in range(0, len(here), few):
                    last = min(first + few, len(here))
                    nats += put_gradient(logits[first:last], slice(start + first, start + last))
                torch.mm(logits, w, out=by_features[start : start + rows])
                if by_weight is None:
                    pass
                elif by_weight.dtype == low:
                    torch.addmm(by_weight, logits.T, here, out=by_weight)
                else:
                    by_weight += logits.T @ here
                if by_bias is not None:
                    by_bias += logits.sum(0, dtype=exact)
        ctx.save_for_backward(by_features, by_weight, by_bias)
        ctx.kinds = features.dtype, weight.dtype
        return nats

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, factor):
        by_features, by_weight, by_bias = ctx.saved_tensors
        features, weight = ctx.kinds
        by_weight = None if by_weight is None else (factor * by_weight).to(weight)
        by_bias = None if by_bias is None else (factor * by_bias).to(weight)
        return (factor * by_features).to(features), by_weight, by_bias, None, None


def _put_gradient(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """The summed nats of some rows. Their gradient, softmax - onehot and 0 where ignored, overwrites the logits."""
    exact = torch.promote_types(logits.dtype, torch.float32)
    target, real = targets.clamp(min=0)[:, None], (targets != IGNORE)[:, None]
    if weights is not None:
        real = real * weights[:, None].to(exact)  # the weight of each target
    x = logits.to(exact)  # the logits themselves if they have that type; the rest is in place
    x -= x.amax(-1, keepdim=True)
    score = x.gather(1, target)
    total = x.exp_().sum(-1, keepdim=True)
    x *= real / total
    x.scatter_add_(1, target, -real.to(exact))
    if x is not logits:
        logits.copy_(x)
    return ((total.log() - score) * real).sum()


def masked_loss(
    features: Float[Tensor, "batch seq d_model"],
    head: nn.Linear,
    targets: Int[Tensor, "batch seq"],
    weights: Weights = None,
) -> Float[Tensor, ""]:
    """`plain_loss` as in the memory study: all logits, then a copy of the rows with a real target.

    The copy takes its own size in the forward pass and a zero-filled tensor of all logits in the backward pass.
    """
    logits, real = head(features), targets != IGNORE
    return _cross_entropy(logits[real], targets[real], None if weights is None else weights[real])


LOSSES = {"plain": plain_loss, "chunked": chunked_loss, "masked": masked_loss}  # the recipe's choices


def loss_of(recipe: Recipe) -> Callable[..., Float[Tensor, ""]]:
    """The recipe's loss. With `head_positions="valid"` it receives only the features of real targets."""
    loss = LOSSES[recipe.loss]
    if recipe.head_positions == "all":
        return loss

    def on_valid_positions(features: Tensor, head: nn.Linear, targets: Tensor, weights: Weights = None) -> Tensor:
        real = targets != IGNORE
        return loss(features[real][None], head, targets[real][None], None if weights is None else weights[real][None])

    return on_valid_positions
