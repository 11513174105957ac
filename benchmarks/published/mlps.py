"""Gated feed-forward layers, plain and tiled."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from published.steps import Case, Shapes, dtype_of, measured

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}


class GatedMLP(nn.Module):
    """down(activation(gate(x)) * up(x)), without biases."""

    def __init__(self, d_model: int, d_ff: int, activation: str) -> None:
        super().__init__()
        self.gate, self.up = (nn.Linear(d_model, d_ff, bias=False) for _ in range(2))
        self.down = nn.Linear(d_ff, d_model, bias=False)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.gate(x)) * self.up(x))


class Tiled(torch.autograd.Function):
    """Tile by tile along the sequence, without a graph; backward computes each tile again (DeepSpeed's TiledMLP).

    The tiles' gradients are views of one tensor that backward accumulates into.
    """

    @staticmethod
    def forward(ctx, x: Tensor, mlp: nn.Module, n_tiles: int) -> Tensor:
        ctx.mlp, ctx.n_tiles = mlp, n_tiles
        ctx.save_for_backward(x)
        with torch.no_grad():
            tiles = [mlp(tile) for tile in x.chunk(n_tiles, dim=-2)]
        return torch.cat(tiles, dim=-2)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (x,) = ctx.saved_tensors
        flat, incoming = x.detach().view(-1, x.shape[-1]), gradient.view(-1, x.shape[-1])
        of_x = torch.zeros_like(flat)
        parts = (tensor.chunk(ctx.n_tiles) for tensor in (flat, incoming, of_x))
        for tile, tile_gradient, target in zip(*parts, strict=True):
            tile.requires_grad_()
            tile.grad = target
            with torch.enable_grad():
                y = ctx.mlp(tile)
            y.backward(tile_gradient)
        return of_x.view(x.shape), None, None


def gated_mlp(shapes: Shapes) -> Case:
    """A gated MLP on x [batch, length, d_model], cast to its dtype after it was made; with `tiles`, tile by tile."""

    def build():
        x = torch.randn(shapes["batch"], shapes["length"], shapes["d_model"], dtype=dtype_of(shapes))
        mlp = GatedMLP(shapes["d_model"], shapes["d_ff"], shapes["activation"])
        return mlp.to(dtype_of(shapes)), x

    def forward(mlp: nn.Module, x: Tensor) -> Tensor:
        return Tiled.apply(x, mlp, shapes["tiles"]) if "tiles" in shapes else mlp(x)

    return measured(shapes, build, forward)
