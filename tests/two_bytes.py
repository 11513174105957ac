"""A kind of model that the kit does not have: it reads two bytes a position, and predicts the next two in order.

The first byte of a pair is predicted from the stream after the pair before it, the second one from that stream and the
first byte.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stlm_kit.config import DecoderConfig, ModelConfig
from stlm_kit.model import Block, LanguageModel, Score, model_kind
from stlm_kit.presets import PRESETS, Preset


class TwoBytesConfig(ModelConfig, frozen=True, extra="forbid"):
    kind: Literal["two-bytes"] = "two-bytes"
    d_model: int = 32
    n_layers: int = 2
    dropout: float = 0.0


@model_kind(TwoBytesConfig)
class TwoBytes(LanguageModel):
    def __init__(self, config: TwoBytesConfig) -> None:
        super().__init__()
        self.config, width = config, config.d_model
        block = DecoderConfig(
            vocab_size=1, context_length=1, n_layers=1, d_model=width, n_heads=2, d_ff=2 * width, norm="rmsnorm",
            positions="sinusoidal", feed_forward="swiglu", bias=False, tied_head=True,
        )  # fmt: skip
        self.embedding = nn.Embedding(config.vocab_size, width // 2)
        self.places = nn.Parameter(0.02 * torch.randn(config.context_length // 2 + 2, width))
        self.start = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(Block(block) for _ in range(config.n_layers))
        self.first = nn.Linear(width, config.vocab_size)
        self.second = nn.Linear(width + width // 2, config.vocab_size)

    def forward(self, ids: Tensor) -> Tensor:
        """The logits of the byte after each byte, [batch, seq, vocab]."""
        n_bytes = ids.shape[1]
        bytes_ = self.embedding(F.pad(ids, (0, n_bytes % 2)))
        pairs = bytes_.unflatten(1, (-1, 2))  # [batch, pairs, 2, width / 2]
        stream = torch.cat([self.start.expand(len(ids), 1, -1), pairs.flatten(2)], dim=1)
        stream = stream + self.places[: stream.shape[1]]
        for block in self.blocks:
            stream = block(stream)
        second = self.second(torch.cat([stream[:, :-1], pairs[:, :, 0]], dim=-1))
        return torch.stack([second, self.first(stream[:, 1:])], dim=2).flatten(1, 2)[:, :n_bytes]

    def score(self, batch) -> Score:
        logits = self(batch.ids)
        nats = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="none")
        return Score(nats.view(batch.targets.shape).sum(-1), batch.target_bytes)

    def begin(self, ids: Tensor) -> Tensor:
        return ids

    def extend(self, state: Tensor, ids: Tensor) -> Tensor:
        return torch.cat([state, ids[:, None]], dim=1)

    def next_logits(self, state: Tensor) -> Tensor:
        left_out = max(state.shape[1] - self.config.context_length, 0)
        return self(state[:, left_out + left_out % 2 :])[:, -1]  # pairs stay pairs


PRESET = Preset(
    name="laptop-two-bytes",
    config=TwoBytesConfig(vocab_size=257, context_length=32),
    source="A test's own.",
    tokenizer="bytes",
    published=False,
)


def register(monkeypatch) -> None:
    """The preset among the kit's, for one test."""
    monkeypatch.setitem(PRESETS, PRESET.name, PRESET)
