"""Steps that compute the same bits each time. On a CPU they do so by default, on a GPU only with other kernels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from stlm_kit.errors import KitError

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"  # cuBLAS repeats its sums only with workspaces of a fixed number and size
FIXED = ":4096:8"


@contextmanager
def repeatable(device: torch.device, wanted: bool = True) -> Iterator[None]:
    """Within this context, if `wanted`, torch uses only kernels whose result repeats bit for bit.

    Otherwise attention's backward pass and cuBLAS may sum in another order in each call. Raises KitError where cuBLAS
    is already configured otherwise: it reads CUBLAS_WORKSPACE_CONFIG at the first matrix product of a process.
    """
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ.setdefault(CUBLAS, FIXED)
    torch.use_deterministic_algorithms(True)
    try:
        _must_repeat(device)
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def _must_repeat(device: torch.device) -> None:
    """Try a matrix product. torch refuses it where cuBLAS was configured otherwise."""
    one = torch.ones(1, 1, device=device)
    try:
        one @ one
    except RuntimeError as error:
        raise KitError(
            f"deterministic needs {CUBLAS}={FIXED} before the first product on the GPU, and this process has computed "
            "one without it; restart Python with that variable set."
        ) from error


def step_seed(seed: int, number: int) -> int:
    """The seed of torch's generator for one step of a run: 64 bits that depend on both, the lower 32 as well.

    torch's generator on a CPU reads the lower 32 bits alone, so adding `number` to a multiple of 2^32 would give all
    seeds the same dropout masks.
    """
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:8], "little")
