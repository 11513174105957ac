"""CUDA's choice of operations on CPU tensors, so that autograd saves the same storages as on CUDA.

torch's CPU build cannot run a CUDA backward pass, not even on fake tensors. But every operation of the CUDA build can
be called on a fake CPU tensor; only the choice between operations differs. This mode chooses as CUDA does: dropout
draws a mask of bytes, autocast uses CUDA's lists, and attention uses a fused kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from stlm_kit.memory.attention_kernels import byte_dropout, cpu_attention, cuda_attention
from stlm_kit.memory.devices import Device, device_named
from stlm_kit.memory.refusals import RECURRENT, refuse_recurrent
from stlm_kit.memory.stand_ins import ON_BOTH, FusedRMSNorm
from stlm_kit.memory.torch_patches import generator_state_without_values, in_each_backward

DEVICE = "cpu"  # the device of the fake tensors

# Computed in fp32 under autocast: AT_FORALL_FP32 and AT_FORALL_FP32_SET_OPT_DTYPE in autocast_mode.h of torch 2.13.
IN_FP32 = frozenset(
    """acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow __pow__ softplus layer_norm
    native_layer_norm rms_norm group_norm frobenius_norm nuclear_norm cosine_similarity poisson_nll_loss
    cosine_embedding_loss nll_loss nll_loss2d hinge_embedding_loss kl_div l1_loss smooth_l1_loss huber_loss mse_loss
    margin_ranking_loss multilabel_margin_loss soft_margin_loss triplet_margin_loss multi_margin_loss
    binary_cross_entropy_with_logits dist pdist cdist renorm logsumexp norm""".split()  # noqa: SIM905
)
IN_FP32_UNLESS_TOLD = frozenset({"prod", "softmax", "log_softmax", "cumprod", "cumsum", "linalg_vector_norm", "sum"})
# torch 2.13 has rms_norm in this list and torch 2.11 does not. Without it a 16-bit input keeps its type.
RMS_NORM_IN_FP32 = torch._C._dispatch_has_kernel_for_dispatch_key("aten::rms_norm", "AutocastCUDA")


def _in_fp32(value):
    if isinstance(value, tuple):
        return tuple(_in_fp32(part) for part in value)
    is_low = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if is_low else value


def rms_norm(input: Tensor, normalized_shape, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """CUDA's fused kernel, or the same in single operations where torch's own dispatch does not use the kernel."""
    if RMS_NORM_IN_FP32 and torch.is_autocast_enabled(DEVICE):
        input, weight = _in_fp32((input, weight))
    with torch.autocast(DEVICE, enabled=False):
        layouts = (torch.channels_last, torch.channels_last_3d)
        mixed = weight is not None and weight.dtype != input.dtype
        if mixed or torch._prims_common.suggest_memory_format(input) in layouts:
            return torch.rms_norm(input, normalized_shape, weight, eps)
        return FusedRMSNorm.apply(input, list(normalized_shape), weight, eps)


def cross_entropy(input: Tensor, target: Tensor, *args, **kwargs) -> Tensor:
    """Cross-entropy as under CUDA's autocast: log_softmax keeps its input's type, and nll_loss computes in fp32."""
    if not torch.is_autocast_enabled(DEVICE) or target.is_floating_point() or kwargs.get("label_smoothing"):
        return F.cross_entropy(input, target, *args, **kwargs)
    with torch.autocast(DEVICE, enabled=False):
        scores = torch.log_softmax(input, 1 if input.dim() > 1 else 0, dtype=input.dtype)
        kwargs.pop("label_smoothing", None)
        return F.nll_loss(scores.float(), target, *args, **kwargs)


ON_CUDA: dict[Callable, Callable] = {
    F.dropout: byte_dropout,
    torch.dropout: byte_dropout,
    F.rms_norm: rms_norm,
    torch.rms_norm: rms_norm,
    F.cross_entropy: cross_entropy,
}


class _Lasting(TorchFunctionMode):
    """A mode that stays active in the backward pass, where checkpointed blocks run their forward pass again."""

    def __enter__(self):
        self._patches = ExitStack()
        self._patches.enter_context(in_each_backward(self._pushed))
        return super().__enter__()

    def __exit__(self, *error):
        self._patches.close()
        return super().__exit__(*error)

    @contextmanager
    def _pushed(self):
        super().__enter__()
        try:
            yield
        finally:
            super().__exit__(None, None, None)


class CudaSemantics(_Lasting):
    """Within this context torch functions on CPU tensors choose as on CUDA. Enter autocast as for the CPU."""

    def __init__(self, device: Device | None = None) -> None:
        super().__init__()
        self._device = device_named(device)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if own := ON_CUDA.get(func):
            return own(*args, **kwargs)
        if name in RECURRENT:
            refuse_recurrent(name)
        if func is F.scaled_dot_product_attention:
            return cuda_attention(*args, **kwargs, device=self._device)
        exact = name in IN_FP32 or (name in IN_FP32_UNLESS_TOLD and kwargs.get("dtype") is None)
        if exact and torch.is_autocast_enabled(DEVICE):
            args, kwargs = _in_fp32(args), {key: _in_fp32(value) for key, value in kwargs.items()}
        return ON_BOTH.get(func, func)(*args, **kwargs)


class CpuSemantics(_Lasting):
    """Within this context torch functions on fake CPU tensors save the same tensors as on real ones."""

    def __enter__(self):
        entered = super().__enter__()
        self._patches.enter_context(generator_state_without_values())
        return entered

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") == "lstm":
            refuse_recurrent("lstm")
        if func is F.scaled_dot_product_attention:
            return cpu_attention(*args, **(kwargs or {}))
        return ON_BOTH.get(func, func)(*args, **(kwargs or {}))
