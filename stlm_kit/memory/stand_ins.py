"""Functions whose backward pass torch chooses where a mode cannot see it, rewritten to save the same tensors.

Each replaces one torch function while a step is traced. The computation uses the same operators.
"""

from __future__ import annotations

import torch
from torch import Tensor

aten = torch.ops.aten


class FusedRMSNorm(torch.autograd.Function):
    """RMSNorm as CUDA's kernel (layer_norm_kernel.cu): saves the input, the weight and one number a row.

    `x` and `weight` have one type. The incoming gradient is made contiguous.
    """

    @staticmethod
    def forward(ctx, x: Tensor, shape: list[int], weight: Tensor | None, eps: float | None) -> Tensor:
        """The normalized input, in x's shape and type."""
        with torch._C._AutoDispatchBelowAutograd():  # above it, the CPU build decomposes the operator
            out, per_row = aten._fused_rms_norm.default(x.contiguous(), shape, weight, eps)
        ctx.shape = shape
        ctx.save_for_backward(x, weight, per_row)
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor):
        """The gradients of input and weight."""
        x, weight, per_row = ctx.saved_tensors
        wanted = [ctx.needs_input_grad[0], ctx.needs_input_grad[2]]
        with torch._C._AutoDispatchBelowAutograd():
            found = aten._fused_rms_norm_backward.default(
                gradient.contiguous(), x.contiguous(), ctx.shape, per_row, weight, wanted
            )
        return found[0], None, found[1], None


class Product(torch.autograd.Function):
    """Tensor.prod for inputs without zeros: the gradient is one quotient and one product (FunctionsManual.cpp).

    Without a mode, autograd checks for zeros. Under a mode it takes another path, which holds several copies of the
    input.
    """

    @staticmethod
    def forward(ctx, x: Tensor, dim: int | None, keepdim: bool, dtype: torch.dtype | None) -> Tensor:
        """The product over `dim`, or over all entries for None."""
        out = torch.prod(x, dtype=dtype) if dim is None else torch.prod(x, dim, keepdim, dtype=dtype)
        ctx.dim, ctx.keepdim = dim, keepdim
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor):
        """The gradient of the input."""
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
    """Tensor.cumprod for inputs without zeros: the gradient is a reversed cumulative sum, divided by the input."""

    @staticmethod
    def forward(ctx, x: Tensor, dim: int, dtype: torch.dtype | None) -> Tensor:
        """The cumulative product over `dim`."""
        out = torch.cumprod(x, dim, dtype=dtype)
        ctx.dim = dim
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor):
        """The gradient of the input."""
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
    """torch.prod through `Product`."""
    return Product.apply(input, dim, keepdim, dtype)


def cumprod(input: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """torch.cumprod through `RunningProduct`."""
    return RunningProduct.apply(input, dim, dtype)


ON_BOTH = {torch.prod: prod, Tensor.prod: prod, torch.cumprod: cumprod, Tensor.cumprod: cumprod}
