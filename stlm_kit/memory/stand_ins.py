"""Functions whose backward pass torch chooses below what a mode sees, written out so that they keep what they keep.

Each takes the place of one torch function while a step is traced; what is computed is left to the same operators.
"""

from __future__ import annotations

import torch
from torch import Tensor

aten = torch.ops.aten


class FusedRMSNorm(torch.autograd.Function):
    """CUDA's kernel (layer_norm_kernel.cu): keeps the input, the weight and one number a row.

    `x` and `weight` of one type; the gradient that comes back is made contiguous.
    """

    @staticmethod
    def forward(ctx, x: Tensor, shape: list[int], weight: Tensor | None, eps: float | None) -> Tensor:
        with torch._C._AutoDispatchBelowAutograd():  # above it, the CPU's build writes the operator out
            out, per_row = aten._fused_rms_norm.default(x.contiguous(), shape, weight, eps)
        ctx.shape = shape
        ctx.save_for_backward(x, weight, per_row)
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, weight, per_row = ctx.saved_tensors
        wanted = [ctx.needs_input_grad[0], ctx.needs_input_grad[2]]
        with torch._C._AutoDispatchBelowAutograd():
            found = aten._fused_rms_norm_backward.default(
                gradient.contiguous(), x.contiguous(), ctx.shape, per_row, weight, wanted
            )
        return found[0], None, found[1], None


class Product(torch.autograd.Function):
    """Tensor.prod: where no entry is zero the gradient is one quotient and one product (FunctionsManual.cpp).

    Autograd looks for zeros unless a mode watches it; then it takes a way that holds several copies of the input.
    """

    @staticmethod
    def forward(ctx, x: Tensor, dim: int | None, keepdim: bool, dtype: torch.dtype | None) -> Tensor:
        out = torch.prod(x, dtype=dtype) if dim is None else torch.prod(x, dim, keepdim, dtype=dtype)
        ctx.dim, ctx.keepdim = dim, keepdim
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, out = ctx.saved_tensors
        if ctx.dim is not None and not ctx.keepdim:
            gradient, out = gradient.unsqueeze(ctx.dim), out.unsqueeze(ctx.dim)
        zeros = x == 0
        if ctx.dim is not None:
            counted = zeros.sum(ctx.dim, True)
            counted.sum()
        else:
            del zeros
        return (gradient * (out / x)).to(x.dtype), None, None, None


class RunningProduct(torch.autograd.Function):
    """Tensor.cumprod, where no entry is zero: a running sum from the far end, divided by the input."""

    @staticmethod
    def forward(ctx, x: Tensor, dim: int, dtype: torch.dtype | None) -> Tensor:
        out = torch.cumprod(x, dim, dtype=dtype)
        ctx.dim = dim
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, out = ctx.saved_tensors
        weighted = out * gradient
        zeros = x == 0
        zeros.any()
        flipped = weighted.flip(ctx.dim)
        summed = flipped.cumsum(ctx.dim)
        back = summed.flip(ctx.dim)
        del flipped, summed
        return (back / x).to(x.dtype), None, None


def prod(input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Tensor:
    return Product.apply(input, dim, keepdim, dtype)


def cumprod(input: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    return RunningProduct.apply(input, dim, dtype)


ON_BOTH = {torch.prod: prod, Tensor.prod: prod, torch.cumprod: cumprod, Tensor.cumprod: cumprod}
