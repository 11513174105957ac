"""Where a step is traced: on fake tensors, each operation chosen as the device would choose it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stlm_kit.memory.device_semantics import CpuSemantics, CudaSemantics
from stlm_kit.memory.devices import Device
from stlm_kit.memory.report import Semantics
from stlm_kit.memory.torch_patches import (
    fake_tensors,
    foreach_by_default,
    quantization_tables_made_anew,
    scaler_that_always_updates,
)


@contextmanager
def fake_run(semantics: Semantics, device: Device | None = None) -> Iterator[None]:
    """Within this context any module is built and any step is run without values, as on CUDA or on the CPU."""
    cuda = semantics == "cuda"
    with (
        quantization_tables_made_anew(),
        scaler_that_always_updates(),
        foreach_by_default(cuda),
        fake_tensors(),
        CudaSemantics(device) if cuda else CpuSemantics(),
    ):
        yield
