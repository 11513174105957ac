"""What a stack of transformer blocks keeps for backward when it is checkpointed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from published.mlps import GatedMLP
from published.norms import RMSNorm
from published.steps import Case, Shapes, dtype_of, run_a_product


class Block(nn.Module):
    """A pre-norm transformer block with all attention scores and a gated MLP, without positions."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        width, self.n_heads = shapes["d_model"], shapes["n_heads"]
        self.norms = nn.ModuleList([RMSNorm(width), RMSNorm(width)])
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.mlp = GatedMLP(width, shapes["d_ff"], "silu")

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(batch, length, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
        weights = F.softmax((q @ k.mT / q.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf), dim=-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norms[1](x))


class SharedBlocks(nn.Module):
    """One block used `n_blocks` times, checkpointed `together` uses at a time."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self.block, self.n_blocks, self.together = Block(shapes), shapes["n_blocks"], shapes["together"]

    def some(self, x: Tensor) -> Tensor:
        for _ in range(self.together):
            x = self.block(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.n_blocks // self.together):
            x = checkpoint(self.some, x, use_reentrant=False)
        return x


def checkpointed_blocks(shapes: Shapes) -> Case:
    """The forward pass alone, its graph kept: what lives on is what was saved for backward."""

    def build():
        run_a_product()
        return {"blocks": SharedBlocks(shapes)}

    def step(state):
        state.pop("loss", None)  # and with it the graph of the call before
        size = shapes["batch"], shapes["length"], shapes["d_model"]
        x = torch.randn(size, dtype=dtype_of(shapes), requires_grad=True)
        state["loss"] = state["blocks"](x).sum()  # the output itself is not kept: a sum's gradient does without it
        return state["loss"].detach()  # the last operation: by now the output is gone

    return build, step
