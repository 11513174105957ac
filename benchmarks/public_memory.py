"""Memory that others measured on GPUs and published, beside what the kit and torch's MemTracker predict for it.

    python benchmarks/public_memory.py [--group NAME ...] [--json] [--out FILE]

data/public_memory/ holds the published figures, each with its source, shapes, dtype and device, and what is left out
and why. The step of each row is written anew in plain torch (benchmarks/published/) and runs on fake tensors, so it
needs neither a GPU nor the memory. Exits with 1 where a row is off by more than 1 %, or the median by more than 0.1 %.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import textwrap
from collections import Counter
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import torch
from published import CASES
from published.steps import Case
from torch.distributed._tools.mem_tracker import MemTracker

from stlm_kit.memory import predict_step
from stlm_kit.memory.devices import DEVICES, Device
from stlm_kit.memory.torch_patches import fake_tensors

DATA = Path(__file__).resolve().parent.parent / "data" / "public_memory"
MEDIAN_AIM, WORST_AIM = 0.1, 1.0  # percent
PROFILES = {  # by a part of the device's name
    "A100": DEVICES["a100-80gb"],
    "H100": DEVICES["h100-80gb"],
    "RTX 4090": DEVICES["rtx-4090"],
    "B200": replace(DEVICES["h200"], name="b200", capability=(10, 0)),  # its memory does not matter here
}


def read(name: str) -> list[dict]:
    """The rows of one file of data/public_memory/."""
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def case_of(row: dict) -> Case:
    """build and step of a published row."""
    return CASES[row["case"]]({**row["shapes"], "dtype": row["dtype"]})


def published_mib(row: dict) -> float:
    """The published figure in MiB (2^20 bytes, which the sources write MB, and 2^30 GB)."""
    return float(row["published"]) * {"MiB": 1, "GiB": 1024}[row["unit"]]


def profile_of(row: dict) -> Device:
    """The device profile that a row is predicted for; the A100's where the source states no device."""
    return next((profile for part, profile in PROFILES.items() if part in row["device"]), PROFILES["A100"])


def predicted_mib(row: dict) -> float:
    """What the kit says for a row's published figure, in MiB."""
    device = profile_of(row)
    build, step = case_of(row)
    found = predict_step(build, step, span="step", device=device)
    if row["quantity"] in ("peak_allocated", "peak_reserved"):
        return getattr(found, row["quantity"] + "_mib")
    idle = predict_step(build, lambda state: None, span="step", device=device).peak_allocated_mib
    alive = {"peak_added": found.peak_allocated_mib, "kept_for_backward": found.after_forward_mib}
    return alive[row["quantity"]] - idle


def tracked_mib(row: dict) -> float | None:
    """What torch's MemTracker says for a row, from the second step on fake tensors of the CPU; None where it fails.

    It knows no allocator, so a reserved peak is compared with its allocated one, and no CUDA kernels here, so that
    nn.RMSNorm is traced as the CPU's. It is spared what it is not about: modules are cast under the kit's
    `fake_tensors`, and the cycles of its hooks are collected between the steps.
    """

    def total(kind: str) -> float:
        return tracker.get_tracker_snapshot(kind)[torch.device("cpu")]["Total"] / 2**20

    build, step = case_of(row)
    with fake_tensors():
        tracker = MemTracker()
        try:
            with tracker:
                state = build()
                idle = total("current")
                step(state)
                if row["quantity"] == "kept_for_backward":
                    return total("current") - idle
            if row["shapes"].get("mode") != "backward":
                tracker.reset_mod_stats()  # else it refuses a second call of a module
            gc.collect()
            with tracker:  # entering again starts the peak anew
                step(state)
        except (AssertionError, RuntimeError):
            return None
        peak = total("peak")
        del state  # not before: what it holds counts
    return peak - idle if row["quantity"] == "peak_added" else peak


def compare(rows: list[dict]) -> list[dict]:
    """Each row with both predictions in MiB and their errors in percent; the count goes to stderr meanwhile."""
    found = []
    for number, row in enumerate(rows, 1):
        if sys.stderr.isatty():
            print(f"\r{number} of {len(rows)}\033[K", end="\r", file=sys.stderr, flush=True)
        row = {**row, "profile": profile_of(row).name}
        for name, predict in (("kit", predicted_mib), ("memtracker", tracked_mib)):
            mib = predict(row)
            row[name + "_mib"] = mib
            row[name + "_error_percent"] = None if mib is None else 100 * (mib / published_mib(row) - 1)
        found.append(row)
    return found


def summary(rows: list[dict]) -> dict:
    """Median and worst of the errors' sizes, in percent, by who predicts; and the rows that the kit misses."""

    def of(name: str) -> dict:
        errors = [abs(row[name + "_error_percent"]) for row in rows if row[name + "_mib"] is not None]
        if not errors:
            return {"median": None, "worst": None, "failed": len(rows)}
        return {"median": statistics.median(errors), "worst": max(errors), "failed": len(rows) - len(errors)}

    off = [row["source"]["where"] for row in rows if abs(row["kit_error_percent"]) > WORST_AIM]
    return {"rows": len(rows), "kit": of("kit"), "memtracker": of("memtracker"), "off": off}


def report_of(rows: list[dict]) -> dict:
    """All of it as plain values."""
    groups: dict[str, list[dict]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row)
    overall = summary(rows)
    return {
        "aims": {"median_percent": MEDIAN_AIM, "worst_percent": WORST_AIM},
        "holds": not overall["off"] and overall["kit"]["median"] <= MEDIAN_AIM,
        "versions": {"torch": metadata.version("torch")},
        "all": overall,
        "groups": {name: summary(part) for name, part in groups.items()},
        "rows": rows,
        "left_out": read("left_out.jsonl"),
    }


def tell(report: dict) -> None:
    """The report as text."""

    def line(name: str, part: dict) -> str:
        kit, tracker = part["kit"], part["memtracker"]
        seen = "      -       -" if tracker["median"] is None else f"{tracker['median']:7.3f} {tracker['worst']:7.2f}"
        return (
            f"{name:26}{part['rows']:5} {kit['median']:8.4f} {kit['worst']:7.3f}   {len(part['off']):3}      "
            f"{seen}   {tracker['failed']:3}"
        )

    print(f"error in percent, torch {report['versions']['torch']}")
    print(f"{'':26} rows      kit   worst   over 1   MemTracker  worst  fails")
    for name, part in report["groups"].items():
        print(line(name, part))
    print(line("all", report["all"]))
    devices = Counter((row["device"], row["profile"]) for row in report["rows"])
    print("\ndevices: " + "; ".join(f"{device} as {profile} ({n})" for (device, profile), n in devices.items()))
    for name, part in report["groups"].items():
        for where in part["off"]:
            print(f"off: {name}: {where}")
    print("\nleft out:")
    names: dict[tuple[str, str], list[str]] = {}
    for one in report["left_out"]:
        names.setdefault((one["source"], one["reason"]), []).append(f"{one['what']} ({one['rows']})")
    for (source, reason), what in names.items():
        print(textwrap.fill(f"{source}: {'; '.join(what)}: {reason}", 120, subsequent_indent="  "))
    print(f"\nthe aim (median {MEDIAN_AIM} %, worst {WORST_AIM} %) {'holds' if report['holds'] else 'is MISSED'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rows = read("rows.jsonl")
    names = list(dict.fromkeys(row["group"] for row in rows))
    parser.add_argument("--group", nargs="+", metavar="NAME", choices=names, help=f"of: {', '.join(names)}")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the report there as JSON, besides")
    options = parser.parse_args()
    if options.out and not options.out.absolute().parent.is_dir():
        parser.error(f"There is no folder {options.out.parent} for --out; make it first.")
    gc.freeze()  # what is imported need not be looked through after each row
    report = report_of(compare([row for row in rows if not options.group or row["group"] in options.group]))
    text = json.dumps(report, indent=1)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text) if options.json else tell(report)
    sys.exit(not report["holds"])


if __name__ == "__main__":
    main()
