"""The peak arithmetic of a device, in TFLOP/s: by data sheet for GPUs, timed for this machine's processor."""

from __future__ import annotations

# Peaks of whole cards in TFLOP/s, without sparsity, and their multiprocessors: NVIDIA's data sheets of the A100 (2021),
# the H100 (2023) and the H200 (2024), whose arithmetic is that of the H100 SXM.
_H100 = {"fp32": 67.0, "tf32": 494.5, "bf16": 989.5, "fp16": 989.5}
PEAKS = {
    "A100": (108, {"fp32": 19.5, "tf32": 156.0, "bf16": 312.0, "fp16": 312.0}),
    "H100 PCIe": (114, {"fp32": 51.0, "tf32": 378.0, "bf16": 756.5, "fp16": 756.5}),
    "H100": (132, _H100),
    "H200": (132, _H100),
}


def peak_tflops(device: str, precision: str, multiprocessors: int | None = None) -> float | None:
    """The stated peak of a GPU by (part of) its name, in TFLOP/s; a MIG slice's share goes by its multiprocessors.

    None for a device that the table does not know.
    """
    for name, (whole, peaks) in PEAKS.items():
        if name in device:
            return peaks[precision] * (multiprocessors or whole) / whole
    return None


def measured_tflops(precision: str, size: int = 1024) -> float:
    """What this machine's processor reaches in a product of two `size` x `size` matrices, in TFLOP/s: its best of 5."""
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
