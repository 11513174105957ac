"""How fast does a step train? Each recipe beside transformers, also as a share of the device's rate of products."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from statistics import median
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

import stlm_kit as kit
from on_gpu.cases import Case, forget, unavailable, wait
from on_gpu.memory import SMALL, Subject, study_cells
from stlm_kit.memory.operations import step_operations
from stlm_kit.training.optimizer import build_optimizer
from stlm_kit.training.step import Step

ROWS, LENGTH = 24, 512  # a micro-batch of the published 50-million-parameter baseline (Table 1)
MICRO_BATCHES, STEPS = 20, 25_000  # and how many make a step and a run
TRAINED_ROWS = 356_596  # of the memory study, an epoch
REPEATS = 8
RECIPES = "fp32 tf32 bf16 bf16+chunked bf16+checkpoint bf16+valid fp16 bf16+flex bf16+flash bf16+8bit".split()  # noqa: SIM905
PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"}


def cases(device: torch.device) -> Iterator[Case]:
    yield Case("rates", {"size": _size(device)}, partial(rates, device))
    for recipe in RECIPES:
        yield _ours(recipe, False, device)
    for precision in ("bf16", "fp32"):
        yield _peer(precision, False, device)
    share = study_cells()["fp32-b128"].share
    cells = {**study_cells(), "tf32-b128": Subject("memory-study", "tf32+eager+study", 128, 255, share)}
    for name in ["tf32-b128", *study_cells()] if device.type == "cuda" else ["fp32-b128"]:
        step = cells[name].of_size(device)
        yield Case(f"study.{name}", step.asked(), partial(study_step, step, int(name.rsplit("-b")[-1]), device))
    if device.type == "cuda":  # a processor compiles for longer than it rehearses
        yield from (_ours("bf16", True, device), _peer("bf16", True, device), _ours("bf16+chunked", True, device))


def _ours(recipe: str, compiled: bool, device: torch.device) -> Case:
    asked = {"recipe": recipe, "compiled": compiled, **_shape(device)}
    return Case(f"stlm-50m.{recipe}{_ending(compiled)}", asked, partial(ours, recipe, compiled, device))


def _peer(precision: str, compiled: bool, device: torch.device) -> Case:
    asked = {"precision": precision, "compiled": compiled, **_shape(device)}
    return Case(f"transformers.{precision}{_ending(compiled)}", asked, partial(peer, precision, compiled, device))


def _ending(compiled: bool) -> str:
    return ".compiled" if compiled else ""


def _shape(device: torch.device) -> dict[str, Any]:
    return {"preset": "stlm-50m", "rows": _rows(device), "length": _length(device)}


def _rows(device: torch.device) -> int:
    return ROWS if device.type == "cuda" else 2


def _length(device: torch.device) -> int:
    return LENGTH if device.type == "cuda" else 32


def _size(device: torch.device) -> int:
    return 8192 if device.type == "cuda" else 512


# --- the device ---


@cache
def rates(device: torch.device) -> dict[str, Any]:
    """TFLOP/s of a large product in each precision, on random numbers; and GB/s of a copy, read and written."""
    size, found = _size(device), {}
    kinds = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
    kinds |= {"fp16": torch.float16} if device.type == "cuda" else {}
    for precision, dtype in kinds.items():
        if precision == "tf32" and device.type != "cuda":
            continue
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        with kit.Recipe(precision=precision if precision == "tf32" else "fp32").matmul_precision():
            seconds = median(timed(lambda a=a, b=b: a @ b, device, 10))
        found[f"{precision}_tflops"] = 2 * size**3 / seconds / 1e12
    buffer = torch.empty(2**30 if device.type == "cuda" else 2**25, dtype=torch.uint8, device=device)
    other = torch.empty_like(buffer)
    found["copy_gb_s"] = 2 * buffer.numel() / median(timed(lambda: other.copy_(buffer), device, 10)) / 1e9
    return found


def timed(run: Callable[[], object], device: torch.device, repeats: int, warm_up: int = 3) -> list[float]:
    """Seconds of each of `repeats` calls, the device waited for."""
    found = []
    for number in range(warm_up + repeats):
        wait(device)
        started = time.perf_counter()
        run()
        wait(device)
        if number >= warm_up:
            found.append(time.perf_counter() - started)
    return found


# --- steps of the kit and of its peer ---


def _config(device: torch.device) -> kit.DecoderConfig:
    changes = {} if device.type == "cuda" else {**SMALL, "n_kv_heads": 2}
    return kit.preset("stlm-50m", dropout=0.0, **changes)


def _ids(config: kit.DecoderConfig, device: torch.device) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, config.vocab_size, (_rows(device), _length(device) + 1), generator=generator).to(device)


def ours(name: str, compiled: bool, device: torch.device) -> dict[str, Any]:
    recipe = kit.Recipe.named(name)
    if reason := unavailable(recipe, device):
        return {"unavailable": reason}
    config = _config(device)
    model = kit.Decoder(config).to(device).train()
    optimizer = build_optimizer(model, kit.TrainingSettings(learning_rate=6e-4, min_learning_rate=6e-5), recipe)
    step, ids = Step(model, optimizer, recipe, compile=compiled), _ids(config, device)
    batch = kit.Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
    operations = step_operations(config, recipe, _rows(device), _length(device)).own
    return _speed(lambda: step(batch), recipe.precision, operations, device)


def peer(precision: str, compiled: bool, device: torch.device) -> dict[str, Any]:
    """The same shape, tokens and optimizer in transformers' Llama, as its documentation trains."""
    if importlib.util.find_spec("transformers") is None:
        return {"unavailable": "transformers is not installed"}
    from peers import llama

    config = _config(device)
    torch.manual_seed(0)
    model = llama(config).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    forward, recipe = torch.compile(model) if compiled else model, kit.Recipe(precision=precision)
    ids = _ids(config, device)[:, :-1].contiguous()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with recipe.matmul_precision():
            with recipe.autocast(device.type):
                loss = forward(input_ids=ids, labels=ids).loss
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    operations = step_operations(config, recipe, _rows(device), _length(device)).own
    return _speed(step, precision, operations, device)


def _speed(step: Callable[[], object], precision: str, operations: int, device: torch.device) -> dict[str, Any]:
    forget(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = timed(step, device, REPEATS if device.type == "cuda" else 3)
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None
    middle, tokens = median(seconds), _rows(device) * _length(device)
    rate = rates(device)[f"{precision}_tflops"]
    return {
        "steps_per_second": 1 / middle,
        "tokens_per_second": tokens / middle,
        "step_s": middle,
        "step_s_most": max(seconds),
        "share_of_matrix_rate": operations / middle / 1e12 / rate,
        "peak_allocated_mib": peak,
        "hours_of_the_published_run": middle * MICRO_BATCHES * STEPS / 3600,
    }


# --- the memory study's steps ---


def study_step(step: Subject, published_batch: int, device: torch.device) -> dict[str, Any]:
    """The time of a step, what an epoch of such steps takes, and how much of it the GPU spends in matrix products."""
    from stlm_kit.memory.step_under_test import Subject as Trained

    trained = Trained.of(step.config(), step.recipe, step.batch_size, step.length, step.share, 1, device.type)
    state = trained.build()
    seconds = timed(lambda: trained.step(state), device, REPEATS if device.type == "cuda" else 2)
    found = {"step_s": median(seconds), "epoch_s": median(seconds) * TRAINED_ROWS / published_batch}
    if device.type != "cuda":
        return found
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
        for _ in range(3):
            trained.step(state)
        wait(device)
    kernels = {
        event.key: event.self_device_time_total / 3e6
        for event in profiler.key_averages()
        if event.device_type == DeviceType.CPU  # an operation, with the time of its kernels, which are events again
    }
    products = sum(kernels.get(name, 0.0) for name in PRODUCTS)
    return {**found, "products_s": products, "kernels_s": sum(kernels.values())}
