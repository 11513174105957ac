"""GPT-2 written out operation by operation, trained by AdamW: a book's loop and the same after five of its changes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from published.steps import Case, Shapes, dtype_of


class Norm(nn.Module):
    """Layer normalization over the last dimension, from mean and variance."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        normal = (x - mean) / torch.sqrt(variance + 1e-5)
        return self.scale * normal + self.shift


class TanhGELU(nn.Module):
    """GELU's tanh approximation, term by term."""

    def forward(self, x: Tensor) -> Tensor:
        root = torch.sqrt(torch.tensor(2.0 / math.pi))
        return 0.5 * x * (1 + torch.tanh(root * (x + 0.044715 * torch.pow(x, 3))))


class Attention(nn.Module):
    """Causal attention with all scores; its mask is a buffer of floats (`stored_mask`) or made in each call."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        width, length = shapes["d_model"], shapes["length"]
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.out, self.n_heads = nn.Linear(width, width), shapes["n_heads"]
        self.dropout = nn.Dropout(shapes["dropout"])
        self.stored = shapes["stored_mask"]
        if self.stored:
            self.register_buffer("mask", torch.triu(torch.ones(length, length), diagonal=1))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        key, query, value = (
            part(x).view(batch, length, self.n_heads, -1).transpose(1, 2) for part in (self.key, self.query, self.value)
        )
        scores = query @ key.transpose(2, 3)
        if self.stored:
            mask = self.mask.bool()[:length, :length]
        else:
            mask = torch.triu(torch.ones(length, length, device=x.device), diagonal=1).bool()
        scores.masked_fill_(mask, -torch.inf)
        weights = self.dropout(torch.softmax(scores / key.shape[-1] ** 0.5, dim=-1))
        mixed = (weights @ value).transpose(1, 2)
        return self.out(mixed.reshape(batch, length, width))


class Block(nn.Module):
    """Attention and a feed-forward layer, each normalized before and added after."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        width = shapes["d_model"]
        self.attention = Attention(shapes)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), TanhGELU(), nn.Linear(4 * width, width))
        self.norms = nn.ModuleList([Norm(width), Norm(width)])
        self.dropout = nn.Dropout(shapes["dropout"])

    def forward(self, x: Tensor) -> Tensor:
        for norm, part in zip(self.norms, (self.attention, self.feed_forward), strict=True):
            before = x
            x = norm(x)
            x = part(x)
            x = self.dropout(x)
            x = x + before
        return x


class GPT2(nn.Module):
    """Token ids [batch, length] to logits [batch, length, vocab_size]; the head has weights of its own."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        width = shapes["d_model"]
        self.tokens = nn.Embedding(shapes["vocab_size"], width)
        self.positions = nn.Embedding(shapes["length"], width)
        self.dropout = nn.Dropout(shapes["dropout"])
        self.blocks = nn.Sequential(*(Block(shapes) for _ in range(shapes["n_layers"])))
        self.norm = Norm(width)
        self.head = nn.Linear(width, shapes["vocab_size"], bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        x = self.dropout(x)
        x = self.blocks(x)
        x = self.norm(x)
        return self.head(x)


def train_gpt2(shapes: Shapes) -> Case:
    """One step of training: gradients dropped, forward, backward, AdamW (`fused`, or for each by default)."""

    def build():
        model = GPT2(shapes).to(dtype_of(shapes)).train()
        how = {"fused": True} if shapes["fused"] else {"foreach": True}  # CUDA's default
        return {"model": model, "optimizer": torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.1, **how)}

    def step(state):
        state["optimizer"].zero_grad()
        size = shapes["batch"], shapes["length"]
        inputs, targets = torch.zeros(size, dtype=torch.int64), torch.zeros(size, dtype=torch.int64)
        loss = F.cross_entropy(state["model"](inputs).flatten(0, 1), targets.flatten())
        loss.backward()
        state["optimizer"].step()
        state["loss"] = loss  # it is printed after the step, and lives until the next one's

    return build, step
