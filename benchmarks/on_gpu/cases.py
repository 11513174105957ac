"""A case is one thing to find out on the device; its row is written as soon as it is known.

Each section's `cases(device)` gives its cases in the order of their weight, for time may run out. A case that fails
leaves a row that says so, and the next one goes on.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import math
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

import stlm_kit as kit
from stlm_kit.model import attention
from stlm_kit.reproduce.results import new_row

STUDY = "gpu"
OUT_OF_MEMORY = "out of memory"


@dataclass(frozen=True)
class Case:
    """`run()` gives the metrics of a row. Where they hold "ok", that says whether what was expected holds."""

    name: str
    configuration: dict[str, Any]
    run: Callable[[], dict[str, Any]]


@cache
def about(device_type: str) -> dict[str, Any]:
    """What a row's machine has besides what every row tells."""
    if device_type != "cuda":
        return {"threads": torch.get_num_threads()}
    found = torch.cuda.get_device_properties(0)
    return {
        "capability": f"{found.major}.{found.minor}",
        "gpu_memory_mib": found.total_memory // 2**20,
        "multiprocessors": found.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def run_cases(section: str, cases: Iterable[Case], device: torch.device, file: Path, deadline: float) -> list[str]:
    """Run them until `deadline` (time.monotonic's), a row a case into `file`; gives the names of those left out."""
    left_out = []
    for case in cases:
        if time.monotonic() > deadline:
            left_out.append(case.name)
            continue
        started = time.perf_counter()
        metrics = _outcome(case)
        forget(device)
        odd = {name for name, value in metrics.items() if isinstance(value, float) and not math.isfinite(value)}
        metrics = {**metrics, **dict.fromkeys(odd, None), **({"ok": False} if odd else {})}
        metrics = {**metrics, "seconds": round(time.perf_counter() - started, 2)}
        row = new_row(
            STUDY, f"{section}.{case.name}", case.configuration, metrics, device_name(device), **about(device.type)
        )
        with file.open("a") as rows:
            rows.write(json.dumps(row) + "\n")
        print(f"  {section}.{case.name:<38} {shown(metrics)}", flush=True)
    return left_out


def _outcome(case: Case) -> dict[str, Any]:
    try:
        return case.run()
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        if OUT_OF_MEMORY in str(error):
            return {"ok": False, "failed": f"out of memory: {lines[0][:200]}"}
        traceback.print_exc()
        return {"ok": False, "failed": f"{type(error).__name__}: {lines[0][:300]}"}


def shown(metrics: dict[str, Any]) -> str:
    """A row's metrics as one line, verdict first."""
    if reason := metrics.get("unavailable") or metrics.get("failed"):
        return f"{'--' if 'unavailable' in metrics else 'NO'}  {reason}"
    mark = {True: "ok", False: "NO", None: "  "}[metrics.get("ok")]
    values = (f"{name} {_number(value)}" for name, value in metrics.items() if name not in ("ok", "seconds"))
    return f"{mark}  {', '.join(values)}  ({metrics['seconds']:.1f} s)"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def unavailable(recipe: kit.Recipe, device: torch.device) -> str | None:
    """Why a recipe cannot be tried here, None where it can."""
    if recipe.optimizer == "8bit" and importlib.util.find_spec("torchao") is None:
        return "torchao is not installed"
    return recipe.unsuitable(device.type) or attention.unavailable(recipe.attention)


def forget(device: torch.device) -> None:
    """Let go of what the last case left on the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def wait(device: torch.device) -> None:
    """Until the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize()
