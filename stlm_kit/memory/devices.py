"""Data on GPUs: memory, compute capability, torch's use of them, and peak arithmetic from data sheets.

`CHIPS` lists what a chip computes. `DEVICES` lists the devices that a prediction can name: whole cards and MIG slices.
Sizes are in MiB (2^20 bytes), arithmetic in TFLOP/s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version

from stlm_kit.errors import UsageError, near

CONTEXT_MIB = 500.0  # an allowance for the CUDA context and its kernels, outside the allocator's memory
MARGIN = 0.02  # the spare memory that a named device must have, as a share of the predicted peak


@dataclass(frozen=True)
class Chip:
    """A GPU's compute capability, number of multiprocessors, and (precision, TFLOP/s without sparsity) pairs."""

    capability: tuple[int, int]
    multiprocessors: int
    tflops: tuple[tuple[str, float], ...]


def _chip(capability: tuple[int, int], multiprocessors: int, **tflops: float) -> Chip:
    return Chip(capability, multiprocessors, tuple(tflops.items()))


# The keys are parts of the name that torch gives. The peaks are from NVIDIA's data sheets: T4 (2019), A100 (2021), H100
# (2023), H200 (2024), and from its white papers on Ada (2022) and on Blackwell for RTX (2025), with 16-bit products
# accumulated in fp32.
CHIPS = {
    "T4": _chip((7, 5), 40, fp32=8.1, fp16=65.0),
    "RTX 4090": _chip((8, 9), 128, fp32=82.6, tf32=82.6, bf16=165.2, fp16=165.2),
    "RTX 5090": _chip((12, 0), 170, fp32=104.8, tf32=104.8, bf16=209.5, fp16=209.5),
    "A100": _chip((8, 0), 108, fp32=19.5, tf32=156.0, bf16=312.0, fp16=312.0),
    "H100 PCIe": _chip((9, 0), 114, fp32=51.0, tf32=378.0, bf16=756.5, fp16=756.5),
    "H100": _chip((9, 0), 132, fp32=67.0, tf32=494.5, bf16=989.5, fp16=989.5),
    "H200": _chip((9, 0), 132, fp32=67.0, tf32=494.5, bf16=989.5, fp16=989.5),
}


def _cublaslt_mib(torch_version: str) -> float:
    """cuBLASLt's own workspace in MiB: 1, measured on an A100 with torch 2.9 and on an H200 with torch 2.11.

    In torch 2.13 it shares cuBLAS's workspace (pytorch#168175 and the documentation of
    torch.backends.cuda.blas_workspace_size).
    """
    major, minor = torch_version.split(".")[:2]
    return 0.0 if (int(major), int(minor)) >= (2, 13) else 1.0


@dataclass(frozen=True)
class Device:
    """A GPU, or a slice of one, for a prediction. `dataclasses.replace` makes one of your own.

    memory_mib: the memory that torch sees. cublas_mib: the workspace of a cuBLAS handle. cublaslt_mib: the workspace of
    cuBLASLt where it has its own; the default is that of the installed torch.
    """

    name: str
    memory_mib: float
    capability: tuple[int, int]
    multiprocessors: int
    context_mib: float = CONTEXT_MIB
    cublaslt_mib: float = field(default_factory=lambda: _cublaslt_mib(version("torch")))

    @property
    def cublas_mib(self) -> float:
        """torch's default workspace in MiB (CublasHandlePool.cpp).

        On Hopper and Blackwell eight buffers of 4 MiB; otherwise two of 4 MiB and eight of 16 KiB.
        """
        return 32.0 if self.capability[0] in (9, 10, 12) else 8.125

    @property
    def threads_per_multiprocessor(self) -> int:
        """The largest number of threads that run at a time (CUDA programming guide, compute capabilities)."""
        return {(7, 5): 1024, (8, 6): 1536, (8, 9): 1536, (12, 0): 1536}.get(self.capability, 2048)

    @property
    def has_flash(self) -> bool:
        """Whether torch's FlashAttention kernel runs (sdp_utils.cpp: from compute capability 8.0)."""
        return self.capability >= (8, 0)

    @property
    def has_bf16(self) -> bool:
        """Whether it multiplies in bf16 in hardware. Before compute capability 8.0 bf16 is emulated and slow."""
        return self.capability >= (8, 0)

    @property
    def usable_mib(self) -> float:
        """What torch's allocator can reserve, in MiB: the memory minus the CUDA context."""
        return self.memory_mib - self.context_mib

    @property
    def safe_mib(self) -> float:
        """The largest predicted peak, in MiB, that leaves `MARGIN` of itself to spare."""
        return self.usable_mib / (1 + MARGIN)


def _device(name: str, memory_mib: float, chip: Chip, multiprocessors: int | None = None) -> Device:
    """A device with this chip: the whole chip, or a slice with the given number of multiprocessors."""
    return Device(name, memory_mib, chip.capability, multiprocessors or chip.multiprocessors)


# The memory is the total capacity in torch's out-of-memory errors, the smallest that users report for the card, because
# drivers differ by some 100 MiB. Slices are those of an 80 GB A100: 1g.10gb and 2g.20gb.
DEVICES = {
    device.name: device
    for device in (
        _device("t4", 14_909.0, CHIPS["T4"]),
        _device("rtx-4090", 24_176.0, CHIPS["RTX 4090"]),
        _device("rtx-5090", 32_112.0, CHIPS["RTX 5090"]),
        _device("mig-10gb", 9_728.0, CHIPS["A100"], 14),
        _device("mig-20gb", 19_968.0, CHIPS["A100"], 28),
        _device("a100-40gb", 40_335.0, CHIPS["A100"]),
        _device("a100-80gb", 81_039.0, CHIPS["A100"]),
        _device("h100-80gb", 80_998.0, CHIPS["H100"]),
        _device("h200", 143_052.0, CHIPS["H200"]),
    )
}
USUAL = DEVICES["mig-20gb"]  # the default: the slice that the kit's full-size runs are planned for


def device_named(device: str | Device | None) -> Device:
    """The device of that name, or the default for None. UsageError for a name that is not in the table."""
    if device is None or isinstance(device, Device):
        return device or USUAL
    if not isinstance(device, str) or device not in DEVICES:
        raise UsageError(
            f"There is no device {device!r}; take one of {', '.join(DEVICES)}.{near(str(device), DEVICES)}"
        )
    return DEVICES[device]


def device_here() -> Device | None:
    """This machine's first CUDA GPU or MIG slice, as torch describes it, or None."""
    import torch

    if not torch.cuda.is_available():
        return None
    found = torch.cuda.get_device_properties(0)
    return Device(found.name, found.total_memory / 2**20, (found.major, found.minor), found.multi_processor_count)


def peak_tflops(device: str, precision: str, multiprocessors: int | None = None) -> float | None:
    """The stated peak of a GPU in TFLOP/s, found by (part of) its name. A MIG slice has the share of its
    multiprocessors.

    None for a device that is not in the table, or that lacks this precision.
    """
    for name, chip in CHIPS.items():
        if name in device:
            peak = dict(chip.tflops).get(precision)
            return None if peak is None else peak * (multiprocessors or chip.multiprocessors) / chip.multiprocessors
    return None


def measured_tflops(precision: str, size: int = 1024) -> float:
    """The TFLOP/s that this machine's processor reaches in a product of two `size` x `size` matrices: the best of 5."""
    import time

    import torch

    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    a = torch.ones(size, size, dtype=kind)
    a @ a
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds) / 1e12
