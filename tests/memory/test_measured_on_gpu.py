"""Predictions held to what a real GPU took: the rows of benchmarks/gpu.py, and every block of two of its steps."""

import gzip
import json
from pathlib import Path

import pytest

from stlm_kit.memory import predict_peak
from stlm_kit.memory.allocator import CachingAllocator, replay
from stlm_kit.memory.budget import largest_batch
from stlm_kit.memory.devices import Device
from stlm_kit.memory.predict import trace_subject
from stlm_kit.memory.recording import MIB
from stlm_kit.memory.step_under_test import Subject
from stlm_kit.presets import preset
from stlm_kit.reproduce.results import read_rows
from stlm_kit.training.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent.parent
ROWS = [row for row in read_rows(ROOT / "data" / "results" / "gpu.jsonl") if "peak_allocated_mib" in row["metrics"]]
ROWS = [row for row in ROWS if row["name"].startswith("memory.")]
H200 = Device("NVIDIA H200", 143_155.0, (9, 0), 132, cublaslt_mib=1.0)  # under torch 2.11


def device_of(row) -> Device:
    """The GPU that a row was measured on, as far as a step's memory depends on it: its name and size are left out, so
    that rows of two GPUs share a prediction. torch 2.11 took a workspace for cuBLASLt.
    """
    machine = row["machine"]
    assert row["versions"]["torch"].startswith("2.11")
    capability = tuple(int(part) for part in machine["capability"].split("."))
    return Device("a GPU with rows", 80_000.0, capability, machine["multiprocessors"], cublaslt_mib=1.0)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['name']}-{row['device'].split()[1]}")
def test_a_step_takes_what_is_predicted(row):
    asked, measured, device = row["configuration"], row["metrics"], device_of(row)
    changes = {"dropout": 0.0} if "flex" in asked["recipe"] else {}
    config, share = preset(asked["preset"], **changes, **asked["overrides"]), asked["valid_fraction"]
    sizes = asked["batch_size"], asked["sequence_length"]
    report = predict_peak(config, asked["recipe"], *sizes, valid_fraction=share, span=asked["span"], device=device)
    assert report.peak_allocated_mib == pytest.approx(measured["peak_allocated_mib"], rel=1e-3)
    assert report.after_forward_mib == pytest.approx(measured["after_forward_mib"], rel=1e-3)
    # Measured after two steps. A report says what is reserved once many have run, which can be more.
    two_steps = replay(trace_subject(Subject.of(config, asked["recipe"], *sizes, share), "cuda", device))
    reserved = two_steps.reserved[-1] / MIB if asked["span"] == "step" else report.peak_reserved_mib
    assert reserved == pytest.approx(measured["peak_reserved_mib"], rel=2.5e-3)
    assert report.peak_reserved_mib > reserved - 1


def test_the_rows_are_there():
    assert len(ROWS) >= 59 and {row["device"] for row in ROWS} == {"NVIDIA H200", "NVIDIA H100 80GB HBM3"}


def test_the_largest_batch_in_a_slice_is_the_one_that_a_trial_found():
    """Found on the H200 by trial, with torch held to 19,468 MiB: 98 rows train and 99 do not."""
    found = largest_batch(
        preset("memory-study"), Recipe.named("fp32+eager+study"), 19_468.0, 255, valid_fraction=0.2385, device=H200
    )
    assert found == 98


@pytest.fixture(scope="module")
def steps():
    with gzip.open(Path(__file__).with_name("h200_blocks.json.gz")) as file:
        return json.load(file)["steps"]


@pytest.mark.parametrize(
    "name", ["memory-study, chunked+checkpoint, 64 rows", "memory-study, fp32+eager+study, 32 rows"]
)
def test_the_allocator_serves_a_gpus_requests_as_the_gpus_own_did(name, steps):
    """The same requests in the same order reserve the same segments."""
    allocator, blocks = CachingAllocator(), []
    for event in steps[name]["events"]:
        if event >= 0:
            blocks.append(allocator.allocate(event))
        else:
            allocator.release(blocks[-event - 1])
    assert allocator.reserved == steps[name]["reserved"] == sum(steps[name]["segments"])


def test_an_allocator_that_runs_short_gives_back_what_it_keeps():
    allocator = CachingAllocator(limit=64 * MIB)
    first = allocator.allocate(40 * MIB)
    allocator.release(first)
    assert allocator.reserved == 40 * MIB  # kept
    allocator.allocate(50 * MIB)
    assert allocator.reserved == 50 * MIB  # given back, then taken anew
