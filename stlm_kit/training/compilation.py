"""torch.compile, where this environment can: what keeps it from it is told before the first step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from stlm_kit.errors import KitError


def compiled(function: Callable, device_type: str) -> Callable:
    """`function` compiled on its first call. KitError, one sentence, where that is bound to fail."""
    if reason := cannot_compile(device_type, Path(torch.__file__).parent):
        raise KitError(reason)
    return torch.compile(function)


def cannot_compile(device_type: str, torch_folder: Path) -> str | None:
    """Why code for a device cannot be compiled here; None where it can, as far as can be told beforehand."""
    if device_type != "cpu":
        return None
    if " " in str(torch_folder):  # inductor passes its include folders to the compiler unquoted
        return (
            f"torch.compile fails where torch's own path holds a space ({torch_folder}); move the environment, or "
            "train without compile."
        )
    if not shutil.which(os.environ.get("CXX", "g++")):
        return "torch.compile needs a C++ compiler for the CPU; install g++, or train without compile."
    return None
