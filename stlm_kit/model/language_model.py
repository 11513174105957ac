"""The interface between a model of any kind and training, evaluation and generation.

    score(batch)            nats of a row's targets, and the bytes of text they spell
    begin(ids), extend(state, ids), next_logits(state)     the distribution of the next token, as a text grows

Every kind must have these. A model with `features` and a `head` gets them from `FeatureModel`, and losses that never
hold all logits at once can train it. `embedding` is needed by `evaluation.influence`, and `blocks` are what activation
checkpointing wraps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from stlm_kit.config import ModelConfig
from stlm_kit.errors import UsageError
from stlm_kit.model.attention import get_attention
from stlm_kit.model.blocks import Attention
from stlm_kit.model.cache import Cache

if TYPE_CHECKING:
    from stlm_kit.data.batches import Batch


class Score(NamedTuple):
    """The score of a batch.

    nats: summed over each row's real targets. n_bytes: UTF-8 bytes that these targets spell in the raw text, or None
    where the batch does not say.
    """

    nats: Float[Tensor, " batch"]
    n_bytes: Int[Tensor, " batch"] | None


class LanguageModel(nn.Module):
    """The base class of every kind of model. `config` says what is computed."""

    config: ModelConfig

    def score(self, batch: Batch) -> Score:
        """The nats of each row, [batch], connected to the autograd graph."""
        raise NotImplementedError(f"{type(self).__name__} has no score(batch).")

    def begin(self, ids: Int[Tensor, "batch seq"]) -> Any:
        """The state after reading these tokens, at least one. Each model defines what its state is."""
        raise NotImplementedError(f"{type(self).__name__} has no begin(ids).")

    def extend(self, state: Any, ids: Int[Tensor, " batch"]) -> Any:
        """The state after one more token in each row. The given state may be modified."""
        raise NotImplementedError(f"{type(self).__name__} has no extend(state, ids).")

    def next_logits(self, state: Any) -> Float[Tensor, "batch vocab"]:
        """The logits of the next token in each row, [batch, vocab]."""
        raise NotImplementedError(f"{type(self).__name__} has no next_logits(state).")

    def set_attention(self, name: str) -> LanguageModel:
        """Compute attention with "eager", "sdpa", "flex" or "flash" from now on. Returns the model.

        UsageError for an unknown name, KitError with one sentence for one that this machine cannot run.
        """
        function = get_attention(name)
        for module in self.modules():
            if isinstance(module, Attention):
                module.function = function
        return self

    def set_dropout(self, probability: float) -> LanguageModel:
        """Change the dropout rate from now on, for a schedule. `.eval()` still switches dropout off. Returns the model.

        UsageError for a probability that is not in [0, 1).
        """
        if not 0 <= probability < 1:
            raise UsageError(f"dropout = {probability} will not do: a probability from 0 up to, not including, 1.")
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = probability
        return self


@dataclass
class Reading:
    """The state of a `FeatureModel`: the tokens read so far, their cache, and the features of the last one."""

    ids: Int[Tensor, "batch seq"]
    cache: Cache
    last: Float[Tensor, "batch d_model"]


class FeatureModel(LanguageModel):
    """A model whose head maps the features at a position to the logits of the next token."""

    head: nn.Linear

    def features(
        self, ids: Int[Tensor, "batch seq"], documents: Int[Tensor, "batch seq"] | None = None, *, cache: Any = None
    ) -> Float[Tensor, "batch seq d_model"]:
        """The head's input, [batch, seq, d_model]."""
        raise NotImplementedError(f"{type(self).__name__} has no features(ids).")

    def new_cache(self) -> Cache:
        """An empty cache for `features`."""
        raise NotImplementedError(f"{type(self).__name__} has no new_cache().")

    def forward(
        self, ids: Int[Tensor, "batch seq"], documents: Int[Tensor, "batch seq"] | None = None
    ) -> Float[Tensor, "batch seq vocab"]:
        """The logits of the token after each position, [batch, seq, vocab]."""
        return self.head(self.features(ids, documents))

    def score(self, batch: Batch) -> Score:
        """The nats of each row, summed in float64 (float32 on MPS)."""
        logits = self(batch.ids, batch.documents)
        nats = F.cross_entropy(logits.flatten(0, 1).float(), batch.targets.flatten(), reduction="none")
        nats = nats.view(batch.targets.shape)  # 0 where there is no target (-100)
        if batch.weights is not None:
            nats = nats * batch.weights
        exact = torch.float32 if nats.device.type == "mps" else torch.float64  # float32 sums would lose precision
        return Score(nats.sum(-1, dtype=exact), batch.target_bytes)

    def begin(self, ids: Int[Tensor, "batch seq"]) -> Reading:
        """Read the tokens, at most the last `context_length` of them."""
        cache = self.new_cache()
        recent = ids[:, -self.config.context_length :]
        return Reading(ids, cache, self.features(recent, cache=cache)[:, -1])

    def extend(self, state: Reading, ids: Int[Tensor, " batch"]) -> Reading:
        """Read one more token in each row.

        Past `context_length` the oldest token is dropped and the text is read again.
        """
        everything = torch.cat([state.ids, ids[:, None]], dim=1)
        if state.cache.length >= self.config.context_length:  # the oldest token is dropped, so every position changes
            return self.begin(everything)
        return Reading(everything, state.cache, self.features(ids[:, None], cache=state.cache)[:, -1])

    def next_logits(self, state: Reading) -> Float[Tensor, "batch vocab"]:
        """The logits of the next token in each row, [batch, vocab]."""
        return self.head(state.last)
