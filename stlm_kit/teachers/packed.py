"""Matrices stored in 8 or 4 bits a weight, and turned back into the type of the model for each product.

Consecutive weights of a row share a scale and a minimum: weight = scale * code + minimum (the rule of llama.cpp's
Q4_1). A batch of thousands of tokens spends its time in the product, so turning the codes back costs little.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stlm_kit.errors import UsageError

BITS = (4, 8)
GROUP = 64  # weights that share a scale and a minimum; a row that it does not divide is one group


class PackedLinear(nn.Module):
    """A linear layer that cannot be trained: codes of 4 or 8 bits, and a scale and a minimum for each group.

    At 4 bits a byte holds two codes, the first in its low half. Built empty; `of` packs a layer.
    """

    def __init__(self, d_in: int, d_out: int, bits: int, bias: bool, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bits = d_in, d_out, bits
        groups = d_in // GROUP if d_in % GROUP == 0 else 1
        columns = d_in if bits == 8 else -(-d_in // 2)
        self.register_buffer("codes", torch.empty(d_out, columns, dtype=torch.uint8, device=device))
        self.register_buffer("scale", torch.empty(d_out, groups, 1, dtype=dtype, device=device))
        self.register_buffer("minimum", torch.empty(d_out, groups, 1, dtype=dtype, device=device))
        self.register_buffer("bias", torch.empty(d_out, dtype=dtype, device=device) if bias else None)

    @classmethod
    @torch.no_grad()
    def of(cls, linear: nn.Linear, bits: int) -> PackedLinear:
        """A layer's weights, rounded to the nearest of 2^bits equally spaced values between a group's extremes."""
        weight = linear.weight
        packed = cls(
            linear.in_features, linear.out_features, bits, linear.bias is not None, weight.dtype, weight.device
        )
        if weight.is_meta:
            return packed
        groups = weight.float().view(linear.out_features, packed.scale.shape[1], -1)
        packed.minimum.copy_(groups.amin(-1, keepdim=True))
        packed.scale.copy_((groups.amax(-1, keepdim=True) - packed.minimum.float()) / (2**bits - 1))
        scale = packed.scale.float()
        codes = (groups - packed.minimum.float()) / torch.where(scale > 0, scale, 1)
        codes = codes.round_().clamp_(0, 2**bits - 1).to(torch.uint8).flatten(1)
        if bits == 4:
            codes = F.pad(codes, (0, codes.shape[1] % 2))
            codes = codes[:, ::2] | codes[:, 1::2] << 4
        packed.codes.copy_(codes)
        if linear.bias is not None:
            packed.bias.copy_(linear.bias)
        return packed

    @property
    def weight(self) -> Float[Tensor, "d_out d_in"]:
        """The matrix, in the type of the scales: a new tensor each time."""
        codes = self.codes
        if self.bits == 4:
            codes = torch.stack([codes & 15, codes >> 4], dim=-1).flatten(1)[:, : self.in_features]
        groups = codes.view(self.out_features, self.scale.shape[1], -1).to(self.scale.dtype)
        return groups.mul_(self.scale).add_(self.minimum).flatten(1)

    def forward(self, x: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        """x times the transposed matrix, plus the bias."""
        return F.linear(x, self.weight, self.bias)


def pack(model: nn.Module, bits: int) -> nn.Module:
    """Replace every linear layer of the model's blocks by a packed one. Embedding, norms and head stay. Returns it.

    Layers that share a matrix share the packed one. UsageError for another number of bits, and for a model without
    blocks.
    """
    check_bits(bits)
    if not hasattr(model, "blocks"):
        raise UsageError(f"A {model.config.kind} model has no blocks whose matrices could be packed; leave bits out.")
    packed: dict[int, PackedLinear] = {}
    for parent in list(model.blocks.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear):
                known = packed.setdefault(id(layer.weight), None) or PackedLinear.of(layer, bits)
                packed[id(layer.weight)] = known
                setattr(parent, name, known)
    return model


def check_bits(bits: int | None) -> None:
    """Raise UsageError for a number of bits other than 4, 8 and None."""
    if bits is not None and (isinstance(bits, bool) or bits not in BITS):
        raise UsageError(f"bits = {bits!r} will not do; give 8, 4, or None for the weights as they are.")
