"""Rotary positions applied to queries and keys, as transformers' Llama does it."""

from __future__ import annotations

import torch
from torch import Tensor

from published.steps import Case, Shapes, dtype_of


def _turned(x: Tensor) -> Tensor:
    """(-second half, first half): two slices, each of which backward scatters into a tensor of x's size."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return torch.cat((-second, first), dim=-1)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [..., length, head_dim], its halves turned as pairs by the angles whose cos and sin are given.

    The order counts: backward visits what was recorded last first.
    """
    return (x * cos) + (_turned(x) * sin)


def rope(shapes: Shapes) -> Case:
    """Queries [1, n_heads, length, head_dim] and keys with n_kv_heads, both views of [1, length, heads, head_dim]."""
    dtype, length, head_dim = dtype_of(shapes), shapes["length"], shapes["d_model"] // shapes["n_heads"]

    def build():
        frequencies = 10_000.0 ** (-torch.arange(0, head_dim, 2) / head_dim)
        heads = shapes["n_heads"], shapes["n_kv_heads"]
        sizes = [(1, length, n, head_dim) for n in heads]
        inputs = [torch.randn(size, dtype=dtype, requires_grad=True).transpose(1, 2) for size in sizes]
        gradients = [torch.randn_like(x) for x in inputs]
        positions = torch.arange(length).unsqueeze(0)
        angles = (frequencies[None, :, None] @ positions[:, None].float()).mT  # a product, so cuBLAS has its workspace
        angles = torch.cat([angles, angles], dim=-1)
        cos, sin = angles.cos().to(dtype).unsqueeze(1), angles.sin().to(dtype).unsqueeze(1)
        return inputs, gradients, (cos, sin), positions, frequencies

    def step(state):
        inputs, gradients, turns, *_ = state
        outputs = tuple(rotated(x, *turns) for x in inputs)
        torch.autograd.grad(outputs, inputs, gradients, retain_graph=True)

    return build, step
