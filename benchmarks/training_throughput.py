"""Training throughput of the `stlm-50m` shape: the kit's step beside transformers' Llama, same machine, same run.

    python benchmarks/training_throughput.py [--json] [--recipe bf16] [--steps 5] [--rounds 2]

Each candidate trains in a process of its own (so that peak memory is its own), `--rounds` times in turn, with the same
tokens, fused AdamW and clipping. A figure is the median over all its steps, printed as a ratio to its peer as well.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from importlib import metadata

BATCH_SIZE, CONTEXT_LENGTH = 4, 512
# Each with its peer. What follows "kit-" is "eager", "compiled", or recipe parts that come on top of --recipe and leave
# the mathematics as it is; the report names the leanest and the fastest of them.
CANDIDATES = {
    "kit-eager": "llama-eager",
    "kit-chunked": "llama-eager",
    "kit-chunked+checkpoint": "llama-eager",
    "kit-compiled": "llama-compiled",
}


def kit_step(recipe_name: str, compiled: bool):
    """The kit's own training step on the preset `stlm-50m`."""
    import torch

    import stlm_kit as kit
    from stlm_kit.training.optimizer import build_optimizer
    from stlm_kit.training.step import Step

    model = kit.Decoder(kit.preset("stlm-50m", dropout=0.0)).train()
    optimizer = build_optimizer(model, kit.TrainingSettings(learning_rate=6e-4, min_learning_rate=6e-5))
    step = Step(model, optimizer, kit.Recipe.named(recipe_name), compile=compiled)
    return lambda ids: step(kit.Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())), torch.get_num_threads()


def llama_step(recipe_name: str, compiled: bool):
    """The same shape, tokens and optimizer in transformers, as its documentation trains."""
    import torch
    from peers import llama

    import stlm_kit as kit

    model = llama(kit.preset("stlm-50m"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    forward = torch.compile(model) if compiled else model
    recipe = kit.Recipe.named(recipe_name)

    def step(ids):
        optimizer.zero_grad(set_to_none=True)
        with recipe.autocast("cpu"):
            loss = forward(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    return step, torch.get_num_threads()


def work(name: str, recipe: str, steps: int) -> dict:
    """Train one candidate here for `steps` timed steps after two warm-up steps."""
    import torch

    torch.manual_seed(0)
    model, modes = name.split("-")
    parts = [mode for mode in modes.split("+") if mode not in ("eager", "compiled")]
    make = {"kit": kit_step, "llama": llama_step}[model]
    step, threads = make("+".join([recipe, *parts]), "compiled" in modes)
    length = CONTEXT_LENGTH + (model == "kit")  # transformers shifts inside, so its last input has no target
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 50_257, (BATCH_SIZE, CONTEXT_LENGTH + 1), generator=generator)[:, :length]
    seconds, losses = [], []
    for _ in range(steps + 2):
        started = time.perf_counter()
        losses.append(float(step(ids)))
        seconds.append(time.perf_counter() - started)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": seconds[2:],
        "peak_mib": peak_mib,
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "threads": threads,
    }


def measure(names: list[str], recipe: str, steps: int, rounds: int) -> dict[str, dict]:
    """Run the candidates in turn, each in a fresh process, and gather their steps."""
    found: dict[str, dict] = {}
    for _ in range(rounds):
        for name in names:
            command = [sys.executable, __file__, "--worker", name, "--recipe", recipe, "--steps", str(steps)]
            row = json.loads(
                subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            )
            kept = found.setdefault(name, {**row, "seconds": [], "peak_mib": 0.0})
            kept["seconds"] += row["seconds"]
            kept["peak_mib"] = max(kept["peak_mib"], row["peak_mib"])
    for row in found.values():
        row["tokens_per_second"] = BATCH_SIZE * CONTEXT_LENGTH / statistics.median(row["seconds"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--recipe", default="bf16")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--eager-only", action="store_true", help="leave out compilation (about a minute a candidate)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(options.worker, options.recipe, options.steps)))
        return
    pairs = {kit: peer for kit, peer in CANDIDATES.items() if not (options.eager_only and "compiled" in peer)}
    found = measure(
        list(dict.fromkeys(name for pair in pairs.items() for name in pair)),
        options.recipe,
        options.steps,
        options.rounds,
    )
    report = {
        "model": "stlm-50m shape, dropout 0",
        "batch": f"{BATCH_SIZE} x {CONTEXT_LENGTH} tokens",
        "recipe": options.recipe,
        "machine": platform.processor() or platform.machine(),
        "threads": next(iter(found.values()))["threads"],
        "versions": {name: metadata.version(name) for name in ("torch", "transformers")},
        "ratios": {
            kit: {
                "tokens_per_second": found[kit]["tokens_per_second"] / found[peer]["tokens_per_second"],
                "peak_memory": found[kit]["peak_mib"] / found[peer]["peak_mib"],
            }
            for kit, peer in pairs.items()
        },
        "leanest": min(pairs, key=lambda name: found[name]["peak_mib"]),
        "fastest": max(pairs, key=lambda name: found[name]["tokens_per_second"]),
        "absolute": found,
    }
    if options.json:
        print(json.dumps(report, indent=1))
        return
    print(f"{report['model']}, {report['batch']}, {options.recipe}, {report['threads']} threads, {report['versions']}")
    for kit, peer in pairs.items():
        ours, theirs, ratio = found[kit], found[peer], report["ratios"][kit]
        print(
            f"{kit:22} {ours['tokens_per_second']:7.0f} tokens/s  {ours['peak_mib']:6.0f} MiB | {peer:15}"
            f"{theirs['tokens_per_second']:7.0f} tokens/s  {theirs['peak_mib']:6.0f} MiB | "
            f"ratio {ratio['tokens_per_second']:.2f} speed, {ratio['peak_memory']:.2f} memory"
        )
    print(f"leanest: {report['leanest']}, fastest: {report['fastest']}")


if __name__ == "__main__":
    main()
