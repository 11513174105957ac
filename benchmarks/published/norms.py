"""Normalizations: torch's own, and RMSNorm as it is written by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from published.steps import Case, Shapes, dtype_of, measured


class RMSNorm(nn.Module):
    """Root mean square normalization in fp32, written out operation by operation."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.float32)
        mean_square = wide.pow(2).mean(-1, keepdim=True)
        wide = wide * torch.rsqrt(mean_square + self.eps)
        return self.weight * wide.to(x.dtype)


class AddRMSNorm(RMSNorm):
    """The sum of two streams and its normalization."""

    def forward(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        dtype = x.dtype
        x, residual = x.to(torch.float32), residual.to(torch.float32)
        x = x + residual
        residual = x
        mean_square = x.pow(2).mean(-1, keepdim=True)
        x = x * torch.rsqrt(mean_square + self.eps)
        return self.weight * x.to(dtype), residual.to(dtype)


def rms_norm_by_hand(shapes: Shapes) -> Case:
    """RMSNorm of x [tokens, d_model]; a second module's weight lies on the device."""
    return _norm(shapes, lambda: [RMSNorm(shapes["d_model"]) for _ in range(2)], (shapes["tokens"], shapes["d_model"]))


def layer_norm(shapes: Shapes) -> Case:
    """LayerNorm of x [tokens, d_model]; a second module's weights lie on the device."""
    width = shapes["d_model"]
    return _norm(shapes, lambda: [nn.LayerNorm(width) for _ in range(2)], (shapes["tokens"], width))


def group_norm(shapes: Shapes) -> Case:
    """GroupNorm of x [batch, channels, length]; a second module's weights lie on the device."""
    groups = shapes["channels"] // shapes["channels_per_group"], shapes["channels"]
    size = shapes["batch"], shapes["channels"], shapes["length"]
    return _norm(shapes, lambda: [nn.GroupNorm(*groups) for _ in range(2)], size)


def _norm(shapes: Shapes, modules, size: tuple[int, ...]) -> Case:
    return measured(
        {**shapes, "gradient": "kept"},
        lambda: (nn.ModuleList(modules()), torch.randn(size, dtype=dtype_of(shapes))),
        lambda modules, x: modules[0](x),
    )


def add_rms_norm(shapes: Shapes) -> Case:
    """The sum of two streams [tokens, d_model] and its RMSNorm, gradients of both; two unused modules beside it."""

    def build():
        modules = nn.ModuleList([AddRMSNorm(shapes["d_model"]), *(RMSNorm(shapes["d_model"]) for _ in range(3))])
        tensors = [torch.randn(shapes["tokens"], shapes["d_model"], dtype=dtype_of(shapes)) for _ in range(4)]
        for stream in tensors[:2]:
            stream.requires_grad_()
        return modules, tensors

    def step(state):
        modules, (x, residual, *gradients) = state
        outputs = modules[0](x, residual)
        torch.autograd.backward(outputs, gradients)

    return build, step


def fused_rms_norm(shapes: Shapes) -> Case:
    """nn.RMSNorm of x [length, batch, d_model], the sum of its output backward."""

    def build():
        module = nn.RMSNorm(shapes["d_model"], eps=1e-6).to(dtype_of(shapes))
        size = shapes["length"], shapes["batch"], shapes["d_model"]
        return module, torch.randn(size, dtype=dtype_of(shapes), requires_grad=True)

    def step(state):
        module, x = state
        y = module(x)
        y.sum().backward()

    return build, step
