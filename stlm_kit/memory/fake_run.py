"""The context in which a step is traced: fake tensors, with each operation chosen as on the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stlm_kit.memory.device_semantics import CpuSemantics, CudaSemantics
from stlm_kit.memory.devices import Device
from stlm_kit.memory.kernel_scratch import WithoutValues
from stlm_kit.memory.refusals import in_one_sentence
from stlm_kit.memory.report import Semantics
from stlm_kit.memory.torch_patches import (
    fake_tensors,
    foreach_by_default,
    lbfgs_refused,
    quantization_tables_made_anew,
    scaler_that_always_updates,
    uncompiled,
    without_reports_of_fake_tensors,
)


@contextmanager
def fake_run(semantics: Semantics, values: WithoutValues, device: Device | None = None) -> Iterator[None]:
    """Within this context any module is built and any step runs without values, as on CUDA or on the CPU.

    values: what a dispatch mode in this context returns where a step reads values. Raises UsageError for code that
    cannot be run this way (refusals.py).
    """
    cuda = semantics == "cuda"
    with (
        in_one_sentence(lambda: values.guessed),
        without_reports_of_fake_tensors(),
        lbfgs_refused(),
        uncompiled(),
        quantization_tables_made_anew(),
        scaler_that_always_updates(),
        foreach_by_default(cuda),
        fake_tensors(),
        CudaSemantics(device) if cuda else CpuSemantics(),
    ):
        yield
