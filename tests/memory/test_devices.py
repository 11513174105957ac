"""GPUs by name: what a prediction takes for granted of each, and whether a step fits."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from stlm_kit.errors import UsageError
from stlm_kit.memory import predict_peak, predict_step
from stlm_kit.memory.devices import DEVICES, MARGIN, _cublaslt_mib, device_here, device_named
from stlm_kit.memory.kernel_scratch import CudaScratch

WORKSPACES = {"t4": 8.125, "rtx-4090": 8.125, "a100-40gb": 8.125, "mig-10gb": 8.125, "h100-80gb": 32.0, "h200": 32.0}
WORKSPACES |= {"rtx-5090": 32.0}


def workspaces(device) -> list[float]:
    """MiB of each workspace that a biased product in either pass asks for."""
    report = predict_step(
        lambda: torch.nn.Linear(8, 8), lambda layer: layer(torch.zeros(4, 8)).sum().backward(), device=device
    )
    return sorted(row["mib"] for row in report.alive_at_peak if row["operation"].endswith("workspace"))


@pytest.mark.parametrize("name", WORKSPACES)
def test_a_cublas_workspace_in_either_pass_by_compute_capability(name):
    shared = replace(DEVICES[name], cublaslt_mib=0.0)
    assert workspaces(shared) == [WORKSPACES[name]] * 2


def test_cublaslt_shares_it_but_in_older_builds():
    assert [_cublaslt_mib(number) for number in ("2.9.1+cu128", "2.11.0", "2.13.0+cpu", "3.0.0a1")] == [1, 1, 0, 0]
    older = replace(DEVICES["a100-80gb"], cublaslt_mib=1.0)
    assert workspaces(older) == [1.0, 8.125, 8.125]
    told = predict_peak("laptop-gpt2", "fp32", 1, 8, device=older).assumptions
    assert any("a100-80gb" in sentence and "cuBLASLt 1 MiB" in sentence for sentence in told)


def test_small_models_are_larger_on_hopper():
    small, large = (predict_peak("laptop-gpt2", "fp32", 1, 8, device=name) for name in ("a100-80gb", "h100-80gb"))
    assert large.peak_allocated_mib - small.peak_allocated_mib == pytest.approx(2 * (32 - 8.125))
    assert predict_peak("laptop-gpt2", "fp32", 1, 8).peak_allocated_mib == small.peak_allocated_mib


@pytest.mark.parametrize(
    ("dtype", "device", "matrix"),
    [
        (torch.float16, "t4", False),  # the memory-efficient kernel
        (torch.bfloat16, "t4", True),
        (torch.bfloat16, "rtx-4090", False),
    ],
)
def test_a_t4_has_no_flash_attention(dtype, device, matrix):
    length = 1024

    def build():
        return [torch.nn.Parameter(torch.empty(2, 4, length, 32, dtype=dtype)) for _ in range(3)]

    def step(qkv):
        F.scaled_dot_product_attention(*qkv, is_causal=True).sum().backward()

    report = predict_step(build, step, device=device)
    operations = set(report.timeline.operations)
    assert ("_scaled_dot_product_flash_attention" in operations) == (device != "t4")
    assert ("_safe_softmax" in operations) == matrix


def test_it_fits_a_device_with_a_margin():
    report = predict_peak("laptop-gpt2", "bf16", 2, 16)
    limit = DEVICES["t4"].usable_mib
    for peak, fits in ((limit / (1 + MARGIN) - 1, True), (limit / (1 + MARGIN) + 1, False)):
        assert replace(report, peak_reserved_mib=peak).fits("t4") is fits
        assert replace(report, peak_reserved_mib=peak).fits(limit)  # in MiB, as it stands
    assert report.fits(DEVICES["h200"])


def test_what_cannot_be():
    with pytest.raises(UsageError, match=r"There is no device 'rtx-4080'.*Did you mean 'rtx-4090'"):
        predict_peak("laptop-gpt2", "fp32", 1, 8, device="rtx-4080")
    with pytest.raises(UsageError, match="There is no device"):
        predict_peak("laptop-gpt2", "fp32", 1, 8).fits("a4")
    with pytest.raises(UsageError, match="leave it out"):
        predict_peak("laptop-gpt2", "fp32", 1, 8, semantics="cpu", device="t4")
    with pytest.raises(UsageError, match="needs an Ampere GPU"):
        predict_peak("laptop-llama", "bf16+flash", 1, 8, device="t4")
    assert any("emulates bf16" in s for s in predict_peak("laptop-llama", "bf16", 1, 8, device="t4").assumptions)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_the_workspace_is_the_one_that_torch_takes():
    from stlm_kit.memory.measure import empty_gpu

    empty_gpu()
    before = torch.cuda.memory_allocated()
    left = torch.ones(8, 8, device="cuda")
    product = left @ left
    taken = torch.cuda.memory_allocated() - before - 2 * 512
    assert taken == device_here().cublas_mib * 2**20
    del product, left
    empty_gpu()
    assert torch.cuda.memory_allocated() == before
    assert CudaScratch(device_here())._cublas == taken


def test_no_name_means_a_slice_of_an_a100():
    assert device_named(None) is DEVICES["mig-20gb"]
