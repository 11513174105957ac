"""Training on real text: a run that learns, is killed and goes on; a run that repeats itself bit for bit."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import stlm_kit as kit
from on_gpu.cases import Case
from stlm_kit.training.checkpoint import latest_checkpoint, read_tensors
from stlm_kit.training.loop import TrainResult, train

HERE = Path(__file__).resolve().parent.parent
TEXT = HERE.parent / "data" / "polish.txt"
BYTES = 256
MOST_SECONDS = 150.0  # that a child may train


@dataclass(frozen=True)
class Kind:
    """One way to train; a deterministic one has to repeat itself bit for bit."""

    recipe: str
    steps: int
    checkpoint_every: int
    deterministic: bool = False
    large: bool = False
    learned: float = math.inf  # held-out nats a byte that it has to come below


KINDS = {
    "deterministic": Kind("fp32", 24, 8, deterministic=True),
    "bf16-deterministic": Kind("bf16+checkpoint", 24, 8, deterministic=True),
    "fused": Kind("bf16", 24, 8),
    "scaled": Kind("fp16", 24, 8),
    "8bit": Kind("bf16+8bit", 24, 8),
    "learning": Kind("bf16+chunked", 1000, 100, large=True, learned=2.2),
    "learning-on-a-cpu": Kind("fp32+chunked", 60, 20, learned=4.0),
}
RESUMED = ("deterministic", "fused", "scaled", "bf16-deterministic", "8bit")


def cases(device: torch.device) -> Iterator[Case]:
    kind = "learning" if device.type == "cuda" else "learning-on-a-cpu"
    asked = {"training": kind, "recipe": KINDS[kind].recipe, "steps": KINDS[kind].steps, "text": TEXT.name}
    yield Case("killed", asked, partial(learns, kind, device))


# --- what is trained ---


@cache
def text() -> tuple[np.ndarray, np.ndarray]:
    """The bytes of a real text, the last twentieth held out."""
    whole = np.frombuffer(TEXT.read_bytes(), dtype=np.uint8)
    cut = len(whole) - len(whole) // 20
    return whole[:cut], whole[cut:]


class Windows:
    """Batches of stretches of text from anywhere in it, each a function of seed and number."""

    def __init__(self, rows: int, length: int) -> None:
        self.rows, self.length = rows, length
        self.description = f"{rows} stretches of {length} bytes of {TEXT.name}"

    def __call__(self, seed: int, number: int) -> kit.Batch:
        starts = np.random.default_rng([seed, number]).integers(0, len(text()[0]) - self.length - 1, self.rows)
        return as_batch(text()[0], starts, self.length)


def as_batch(source: np.ndarray, starts: np.ndarray, length: int) -> kit.Batch:
    rows = torch.from_numpy(np.stack([source[start : start + length + 1] for start in starts]).astype(np.int64))
    return kit.Batch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())


def train_in(folder: Path, name: str, device: torch.device) -> TrainResult:
    """Train one of `KINDS` in a folder, or go on there."""
    kind = KINDS[name]
    length, rows = (256, 64) if kind.large else (64, 4)
    shape = (6, 384, 1024, 6, 3) if kind.large else (2, 64, 128, 4, 2)
    changes = dict(zip(("n_layers", "d_model", "d_ff", "n_heads", "n_kv_heads"), shape, strict=True))
    config = kit.preset("laptop-llama", vocab_size=BYTES, context_length=length, dropout=0.1, **changes)
    torch.manual_seed(0)
    settings = kit.TrainingSettings(
        recipe=kind.recipe,
        steps=kind.steps,
        batch_size=rows,
        context_length=length,
        learning_rate=1e-3 if kind.large else 5e-3,
        min_learning_rate=1e-4,
        warmup_steps=kind.steps // 10,
        checkpoint_every=kind.checkpoint_every,
        eval_every=kind.checkpoint_every,
        deterministic=kind.deterministic,
    )
    model = kit.Decoder(config).to(device)
    return train(model, Windows(rows, length), settings, run_dir=folder, evaluate=held_out, progress=False)


@torch.no_grad()
def held_out(model: kit.Decoder) -> dict[str, float]:
    """Nats and bits a byte on the held-out text, in windows one after the other."""
    source, length = text()[1], model.config.context_length
    batch = as_batch(source, np.arange(0, min(len(source), 32 * length) - length - 1, length), length)
    nats, _ = model.score(batch.to(next(model.parameters()).device))
    mean = nats.double().sum().item() / batch.targets.numel()
    return {"loss": mean, "bits_per_byte": mean / math.log(2)}


# --- killed, resumed, repeated ---


def killed(folder: Path, name: str, device: torch.device) -> int:
    """Train in a process of its own and kill it past half of its steps; gives the step that it had reached."""
    command = [sys.executable, str(HERE / "gpu.py"), "--train", name, "--out", str(folder), "--device", str(device)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    metrics, end = folder / "metrics.jsonl", time.monotonic() + MOST_SECONDS
    try:
        while rows_in(metrics) <= KINDS[name].steps // 2 and child.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        said, _ = child.communicate()
    if child.returncode != -signal.SIGKILL:
        raise RuntimeError(f"the training ended by itself with {child.returncode}: {said[-300:]}")
    return rows_in(metrics)


def rows_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def killed_and_resumed(name: str, device: torch.device) -> dict[str, Any]:
    """A run killed in the middle and gone on with, beside one that was not."""
    folder = Path(tempfile.mkdtemp(prefix="stlm-gpu-"))
    try:
        reached = killed(folder / "broken", name, device)
        resumed = train_in(folder / "broken", name, device)
        unbroken = train_in(folder / "unbroken", name, device)
        apart = max(abs(a - b) / b for a, b in zip(resumed.losses, unbroken.losses, strict=True))
        equal = same_weights(folder / "broken", folder / "unbroken")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ok = equal and apart == 0 if KINDS[name].deterministic or device.type == "cpu" else apart < 0.05
    return {"ok": ok, "killed_at": reached, "losses_apart": apart, "equal": equal}


def trained_twice(device: torch.device) -> dict[str, Any]:
    """The same run twice in one process, with the switch that makes it repeatable and without."""
    found = {}
    for name in ("deterministic", "bf16-deterministic", "fused"):
        folder = Path(tempfile.mkdtemp(prefix="stlm-gpu-"))
        try:
            for each in ("a", "b"):
                train_in(folder / each, name, device)
            found[name] = same_weights(folder / "a", folder / "b")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return {"ok": found["deterministic"] and found["bf16-deterministic"], **found}


def same_weights(one: Path, other: Path) -> bool:
    """Whether two runs' last checkpoints hold the same bits, the optimizer's state included."""
    for name in ("model.safetensors", "optimizer.safetensors"):
        a, b = (read_tensors(latest_checkpoint(run / "checkpoint") / name) for run in (one, other))
        if a.keys() != b.keys() or not all(torch.equal(a[key], b[key]) for key in a):
            return False
    return True


def learns(name: str, device: torch.device) -> dict[str, Any]:
    """Held-out loss before and after, of a run that is killed on its way; a byte drawn blindly costs ln 256 nats."""
    folder = Path(tempfile.mkdtemp(prefix="stlm-gpu-"))
    started = time.perf_counter()
    try:
        reached = killed(folder / "run", name, device)
        result = train_in(folder / "run", name, device)
        rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    held = [(row["step"], row["validation"]["loss"]) for row in rows if "validation" in row]
    best = min(loss for _, loss in held)
    return {
        "ok": [row["step"] for row in rows] == list(range(1, KINDS[name].steps + 1)) and best < KINDS[name].learned,
        "killed_at": reached,
        "first_loss": result.losses[0],
        "held_out_best": best,
        "held_out_last": held[-1][1],
        "bits_per_byte_best": best / math.log(2),
        "steps": len(rows),
        "whole_s": round(time.perf_counter() - started, 1),
    }
