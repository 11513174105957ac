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
