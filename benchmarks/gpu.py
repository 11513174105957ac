"""What a GPU has to confirm, for anyone who has one: parity, memory, speed, and a run that learns.

    python benchmarks/gpu.py [--minutes 8] [--only SECTION] [--out FOLDER] [--device cuda|cpu]

Needs a checkout and torch 2.11 or newer, numpy, pydantic, safetensors, jaxtyping, filelock, tokenizers and tqdm;
transformers, torchao, flash-attn and kernels are taken where they are. Each section runs in a process of its own and
writes a row a case into FOLDER/gpu.jsonl as it goes, so that nothing is lost when one crashes or time runs out.
`stlm ledger import FOLDER/gpu.jsonl` keeps the rows and answers the claims that they can.

Without a GPU the same script rehearses every section on the processor, with small models (under 3 minutes).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # the sections, and the kit where it is not installed

# Each with its share of the time; what one leaves over goes to those after it.
SECTIONS = {"parity": 0.35, "memory": 0.2, "learning": 0.15, "speed": 0.3}
GRACE = 40.0  # seconds that a section may take beyond its time for the case at hand


def main() -> int:
    options = parsed()
    if options.train:
        return train_for_a_case(options)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.only:
        return one_section(options)
    file = options.out / "gpu.jsonl"
    if file.exists():
        file.unlink()
    print(f"Every section on {options.device}, {options.minutes:g} minutes at most; rows go to {file}.", flush=True)
    end, ended = time.monotonic() + 60 * options.minutes, {}
    for place, (section, share) in enumerate(SECTIONS.items()):
        left = end - time.monotonic()
        seconds = max(left, 5) * share / sum(list(SECTIONS.values())[place:])
        command = [sys.executable, __file__, "--only", section, "--out", str(options.out), "--device", options.device]
        command += ["--minutes", f"{seconds / 60:.3f}"]
        try:
            ended[section] = subprocess.run(command, timeout=seconds + GRACE).returncode
        except subprocess.TimeoutExpired:
            ended[section] = "was stopped, for it took too long"
    return summary(file, ended)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="the time that all may take (default: 8)")
    parser.add_argument("--only", choices=SECTIONS, metavar="SECTION", help=f"one of {', '.join(SECTIONS)}")
    parser.add_argument(
        "--out", type=Path, default=Path("gpu-rows"), help="the folder for the rows (default: gpu-rows)"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda where there is one")
    parser.add_argument("--train", help=argparse.SUPPRESS)  # a training that a section starts, to kill it
    options = parser.parse_args()
    if not 0 < options.minutes < float("inf"):
        parser.error("--minutes takes a time above 0.")
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA GPU here; leave out --device for a rehearsal on the processor.")
    options.device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return options


def one_section(options: argparse.Namespace) -> int:
    if options.only == "parity":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first product, for repeatable runs
    import importlib

    import torch
    from on_gpu.cases import device_name, run_cases

    started = time.monotonic()
    if options.device == "cpu":
        torch.set_num_threads(1)  # a rehearsal's models are too small for more
    device = torch.device(options.device)
    section = importlib.import_module(f"on_gpu.{options.only}")
    print(f"\n{options.only} on {device_name(device)}, torch {torch.__version__}", flush=True)
    file, deadline = options.out / "gpu.jsonl", started + 60 * options.minutes
    left_out = run_cases(options.only, section.cases(device), device, file, deadline)
    if left_out:
        print(f"  time ran out before: {', '.join(left_out)}")
    return 0


def train_for_a_case(options: argparse.Namespace) -> int:
    import torch
    from on_gpu.learning import train_in

    train_in(options.out, options.train, torch.device(options.device))
    return 0


def summary(file: Path, ended: dict[str, int | str]) -> int:
    """Counts and the rows that failed; 1 where there are some or a section ended early."""
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    failed = [row for row in rows if row["metrics"].get("ok") is False]
    missing = [row for row in rows if "unavailable" in row["metrics"]]
    print(f"\n{len(rows)} rows in {file}: {len(failed)} not as expected, {len(missing)} not available here.")
    for row in failed:
        print(f"  {row['name']}: {row['metrics'].get('failed') or 'outside its bound'}")
    crashed = {section: how for section, how in ended.items() if how != 0}
    for section, how in crashed.items():
        print(f"  the section {section} {how if isinstance(how, str) else f'ended with {how}'}")
    return 1 if failed or crashed else 0


if __name__ == "__main__":
    sys.exit(main())
