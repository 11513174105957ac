"""torch.compile where this environment supports it. Obstacles are reported before the first step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from stlm_kit.errors import KitError


def compiled(function: Callable, device_type: str) -> Callable:
    """`function`, to be compiled on its first call. KitError with one sentence where compilation is known to fail."""
    if reason := cannot_compile(device_type, Path(torch.__file__).parent):
        raise KitError(reason)
    return torch.compile(function)


def cannot_compile(device_type: str, torch_folder: Path) -> str | None:
    """Why code for a device cannot be compiled here, or None where no obstacle is known."""
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
