"""The assumptions of a prediction, one sentence each, for every report."""

from __future__ import annotations

from stlm_kit.memory.devices import Device, device_named
from stlm_kit.memory.report import Semantics
from stlm_kit.memory.step_under_test import Subject

ALWAYS = [
    "Steps repeat: the reported one stands for all after the first.",
    "Every boolean mask is true for the same, stated share of its entries; a number read back is 1, a comparison true, "
    "unless read_back says otherwise; nothing is infinite or not a number.",
    "What torch.compile would fuse (inductor) is traced as it is written.",
]
ON_CUDA = [
    "Blocks and reserved memory follow the default rules of torch's caching allocator; of 37 steps on an H200 (torch "
    "2.11) 36 reserved within 0.2 % of that, and one 5 % less.",
    "Other scratch memory of kernels is left out (cuDNN's convolutions take much), but for attention's, softmax's and "
    "GroupNorm's backward pass, for sums over many rows and for copies of matrices that BLAS cannot read.",
    "The CUDA context, about 500 MiB beside the allocator's memory, is left out.",
    "One stream, one device; no expandable segments.",
    "Attention takes torch's flash or memory-efficient kernel, not cuDNN's.",
    "A step that branches on the device's type is traced along its CPU branch.",
]
ON_CPU = ["Scratch memory inside CPU kernels is left out (oneDNN's matmuls in bf16 take some 100 KB)."]
OF_FLASH = "flash-attn's function is taken to allocate what torch's copy of it does; a window changes nothing of that."
OF_FLEX = "Compiled FlexAttention is taken to allocate its output, a log-sum-exp a query and gradients; no block mask."
OF_8BIT = "The 8-bit update is compiled into one kernel a weight, taken to need no scratch memory."
OF_FP16 = "No gradient overflows, so that every step updates."


def assumptions(semantics: Semantics, subject: Subject | None = None, device: Device | None = None) -> list[str]:
    """The sentences that apply to a prediction."""
    found = [*ALWAYS, *([*_of(device_named(device)), *ON_CUDA] if semantics == "cuda" else ON_CPU)]
    if subject is None:
        return found
    recipe = subject.recipe
    if semantics == "cuda" and recipe.precision == "bf16" and not device_named(device).has_bf16:
        found.append(f"{device_named(device).name} emulates bf16, slowly; fp16 is what it multiplies in.")
    found += [OF_FLASH] if recipe.attention == "flash" else [OF_FLEX] if recipe.attention == "flex" else []
    found += [OF_8BIT] if recipe.optimizer == "8bit" and semantics == "cuda" else []
    return found + ([OF_FP16] if recipe.precision == "fp16" else [])


def _of(device: Device) -> list[str]:
    """The assumptions about the GPU."""
    own = f"cuBLASLt {device.cublaslt_mib:g} MiB" if device.cublaslt_mib else "which cuBLASLt shares (torch 2.13)"
    return [
        f"The GPU is {device.name}, compute capability {device.capability[0]}.{device.capability[1]}: cuBLAS takes "
        f"{device.cublas_mib:g} MiB in each thread that multiplies matrices, {own}."
    ]
