"""torch's choice of attention kernel: on CUDA a kernel without a score matrix where possible, on the CPU rarely.

torch chooses inside one operation, where a dispatch mode cannot see it, and by the device of the tensors. Here the
choice is written in Python, so that fake CPU tensors can take the kernels of either device.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from stlm_kit.memory.devices import Device, device_named
from stlm_kit.memory.tracker import Tracker

aten = torch.ops.aten
HALVES = (torch.bfloat16, torch.float16)


def cuda_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None,
    enable_gqa=False, device: Device | None = None,
) -> Tensor:  # fmt: skip
    """scaled_dot_product_attention's choice on CUDA: flash, then memory-efficient, then the score matrix.

    The flash kernel takes 16-bit inputs without a mask, on Ampere and later. The memory-efficient kernel takes a mask
    and any type that the device multiplies, but no shared keys (sdp_utils.cpp).
    """
    device = device_named(device)
    query, key, value = _as_autocast_would(query, key, value)
    grouped, width = query.shape[1] != key.shape[1], query.shape[-1]
    with torch.autocast("cpu", enabled=False):
        if device.has_flash and query.dtype in HALVES and attn_mask is None and width <= 256:
            padding = -width % 8
            if padding:
                query, key, value = (F.pad(x, (0, padding)) for x in (query, key, value))
            out = aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, scale=scale)[0]
            return out[..., :width] if padding else out
        if not grouped and _efficient_takes(query.dtype, width, device):
            bias = None if attn_mask is None else _bias(attn_mask, query)
            return aten._scaled_dot_product_efficient_attention(
                query, key, value, bias, True, dropout_p, is_causal, scale=scale
            )[0]
        return score_matrix(query, key, value, attn_mask, dropout_p, is_causal, scale, byte_dropout)


def _efficient_takes(kind: torch.dtype, width: int, device: Device) -> bool:
    """Whether the memory-efficient kernel takes heads of this type and width.

    Its matrix products need aligned loads.
    """
    if kind not in (torch.float32, *HALVES) or (kind == torch.bfloat16 and not device.has_bf16):
        return False
    return width % (8 if kind in HALVES else 4 if device.capability >= (8, 0) else 1) == 0


def cpu_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None,
    enable_gqa=False,
) -> Tensor:  # fmt: skip
    """scaled_dot_product_attention on the CPU.

    Its fused kernel has no dropout, so with dropout the score matrix is used.
    """
    if not dropout_p:
        options = {"is_causal": is_causal, "scale": scale, "enable_gqa": enable_gqa}
        return F.scaled_dot_product_attention(query, key, value, attn_mask, **options)
    query, key, value = _as_autocast_would(query, key, value)
    with torch.autocast("cpu", enabled=False):
        return score_matrix(query, key, value, attn_mask, dropout_p, is_causal, scale, torch.dropout)


def _bias(mask: Tensor, query: Tensor) -> Tensor:
    """A boolean mask as numbers to add to the scores, with rows padded to a multiple of 16 for the kernel's loads."""
    length = mask.shape[-1]
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(mask.logical_not(), -torch.inf)
    if padding := -length % 16:
        mask = F.pad(mask, (0, padding))[..., :length]
    return mask.expand(query.shape[0], query.shape[1], query.shape[2], length)


def _otherwise_watched() -> bool:
    """Whether another dispatch mode is active that a real step would have too. torch then writes nothing in place."""
    return any(not isinstance(mode, FakeTensorMode | Tracker) for mode in _get_current_dispatch_mode_stack())


def score_matrix(
    query: Tensor, key: Tensor, value: Tensor, mask, dropout_p, is_causal, scale, drop: Callable[..., Tensor]
) -> Tensor:
    """torch's fallback, _scaled_dot_product_attention_math: it computes the score matrix, in fp32 for 16-bit inputs.

    Every intermediate stays bound to a name until the end, as in torch's function, where the names keep the tensors
    alive.
    """
    kind = query.dtype
    q, k, v = (x.float() if x.dtype in HALVES else x for x in (query, key, value))
    group = query.shape[1] // key.shape[1]
    all_k, all_v = (x.repeat_interleave(group, -3) if group > 1 else x for x in (k, v))
    if is_causal:
        mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill_(mask.logical_not(), -torch.inf)
    factor = (query.shape[-1] ** -0.5 if scale is None else scale) ** 0.5
    scaled = q * factor
    weights = scaled @ (all_k.transpose(-2, -1) * factor)
    if mask is not None:
        weights = weights + mask if _otherwise_watched() else weights.add_(mask)
    weights = aten._safe_softmax(weights, -1)
    if dropout_p:
        weights = drop(weights, dropout_p, True)
    given_as_well = weights.to(kind)  # torch's function allocates these, too  # noqa: F841
    return (weights @ all_v).to(kind)


def _as_autocast_would(*tensors: Tensor) -> tuple[Tensor, ...]:
    low = torch.get_autocast_dtype("cpu")
    return tuple(x.to(low) for x in tensors) if torch.is_autocast_enabled("cpu") else tensors


def byte_dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout as on CUDA: the saved mask has one byte an entry. The CPU's has the input's type."""
    if not training or p in (0, 1) or inplace:
        return F.dropout(input, p, training, inplace)
    return torch.native_dropout(input, p, True)[0]
