"""Peak memory of a training step of `memory-study` on the CPU: the kit's beside transformers and a plain loop.

    python benchmarks/memory.py [--json] [--batch-size 8 32] [--recipe fp32+chunked ...] [--steps 3]

The whole step counts: forward, backward, clipping and AdamW. Each candidate runs in two processes of its own: one is
watched allocation by allocation (`peak`), the other is left alone and timed (`rss`, the most it ever had resident,
Python and torch included). Every figure stands as a ratio to the plain loop's, beside the floor that no exact step
can go below: weights, their gradients and AdamW's two moments.
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
from collections.abc import Callable
from functools import partial
from importlib import metadata

CONTEXT_LENGTH, VOCABULARY = 255, 50_257
RECIPES = ["fp32", "fp32+chunked", "fp32+chunked+checkpoint", "fp32+chunked+tiled"]
AIMS = {8: 0.25, 32: 0.10}  # of the plain loop's peak, for the leanest exact step at a batch size
NATIVE = "plain, torch's chunked loss"
MIB = 2**20

Build, Step = Callable[[], object], Callable[[object], object]


def tokens(batch_size: int):
    """The same random rows for every candidate: int64 [batch_size, CONTEXT_LENGTH + 1]."""
    import torch

    return torch.randint(0, VOCABULARY, (batch_size, CONTEXT_LENGTH + 1), generator=torch.Generator().manual_seed(1))


def plain_loop(batch_size: int, native: bool = False) -> tuple[Build, Step]:
    """The loop of a first tutorial, in fp32: all logits, attention by hand, torch's AdamW.

    `native`: the same with torch's own chunked loss, by its default options.
    """
    import torch
    from torch import nn
    from torch.nn import functional as F

    import stlm_kit as kit

    chunks = nn.LinearCrossEntropyOptions() if native else None  # None: the logits first, then their cross-entropy

    ids = tokens(batch_size)
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def build():
        model = kit.Decoder(kit.preset("memory-study")).train()
        model.set_attention("eager")
        return model, torch.optim.AdamW(model.parameters())

    def step(state) -> None:
        model, optimizer = state
        optimizer.zero_grad()
        features, head = model.features(inputs).flatten(0, 1), model.head
        loss = F.linear_cross_entropy(features, head.weight, targets.flatten(), linear_bias=head.bias, options=chunks)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return build, step


def transformers_loop(batch_size: int) -> tuple[Build, Step]:
    """GPT-2's class at the study's shape, with its own loss.

    It has learned positions where the study's are sines (65,280 weights more) and no bias in its head (50,257 less).
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    import stlm_kit as kit

    shape, ids = kit.preset("memory-study"), tokens(batch_size)
    config = GPT2Config(
        vocab_size=shape.vocab_size,
        n_positions=CONTEXT_LENGTH + 1,  # it shifts inside, so the last token goes in as well
        n_embd=shape.d_model,
        n_layer=shape.n_layers,
        n_head=shape.n_heads,
        n_inner=shape.d_ff,
        activation_function="relu",
        tie_word_embeddings=False,
        use_cache=False,
    )

    def build():
        model = GPT2LMHeadModel(config).train()
        return model, torch.optim.AdamW(model.parameters())

    def step(state) -> None:
        model, optimizer = state
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return build, step


def kit_loop(batch_size: int, recipe: str) -> tuple[Build, Step]:
    """The kit's own step under a recipe."""
    import stlm_kit as kit
    from stlm_kit.training.optimizer import build_optimizer
    from stlm_kit.training.step import Step

    ids, how = tokens(batch_size), kit.Recipe.named(recipe)
    batch = kit.Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())

    def build():
        model = kit.Decoder(kit.preset("memory-study")).train()
        return Step(model, build_optimizer(model, kit.TrainingSettings(), how), how)

    return build, lambda step: step(batch)


def work(name: str, batch_size: int, what: str, steps: int) -> dict:
    """One candidate in this process: its peak allocation, or its seconds a step and resident memory."""
    import torch

    torch.manual_seed(0)
    loops = {"plain": plain_loop, NATIVE: partial(plain_loop, native=True), "transformers": transformers_loop}
    build, step = loops[name](batch_size) if name in loops else kit_loop(batch_size, name)
    if what == "peak":
        from stlm_kit.memory import measure_step

        report = measure_step(build, step, "cpu", span="step", repeats=0)
        return {"peak_mib": report.peak_allocated_mib, "by_category_mib": report.by_category}
    state, seconds = build(), []
    for _ in range(steps + 1):
        started = time.perf_counter()
        step(state)
        seconds.append(time.perf_counter() - started)
    rss_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rss_mib": rss_mib, "seconds": statistics.median(seconds[1:]), "threads": torch.get_num_threads()}


def measure(name: str, batch_size: int, steps: int) -> dict:
    """Both processes of a candidate, one after the other; the second is left out where steps is 0."""
    row: dict = {}
    for what in ("peak", "alone") if steps else ("peak",):
        command = [sys.executable, __file__, "--worker", name, "--batch-size", str(batch_size)]
        command += ["--what", what, "--steps", str(steps)]
        found = subprocess.run(command, capture_output=True, text=True)
        if found.returncode:
            last = (found.stderr.strip().splitlines() or ["no message"])[-1]
            sys.exit(f"The candidate {name!r} at {batch_size} rows did not finish (exit {found.returncode}): {last}")
        row |= json.loads(found.stdout.splitlines()[-1])
    return row


def floor_mib() -> dict[str, float]:
    """What every exact fp32 step with AdamW holds at its end: four numbers a weight."""
    import stlm_kit as kit

    weights = kit.count_parameters(kit.Decoder(kit.preset("memory-study"))) * 4 / MIB
    return {"parameters": weights, "gradients": weights, "optimizer": 2 * weights, "together": 4 * weights}


def compare(batch_sizes: list[int], recipes: list[str], steps: int) -> dict:
    """All candidates at all batch sizes, one process at a time."""
    report: dict = {
        "model": "memory-study",
        "positions": CONTEXT_LENGTH,
        "machine": platform.processor() or platform.machine(),
        "versions": {name: metadata.version(name) for name in ("torch", "transformers")},
        "floor_mib": floor_mib(),
        "batches": {},
    }
    for batch_size in batch_sizes:
        names = ["plain", "transformers", NATIVE, *recipes]
        rows = {name: measure(name, batch_size, steps) for name in names}
        plain = rows["plain"]
        for row in rows.values():
            row["ratios"] = {key: row[key] / plain[key] for key in ("peak_mib", "rss_mib", "seconds") if key in row}
        leanest = min(recipes, key=lambda name: rows[name]["peak_mib"])
        report["batches"][batch_size] = {
            "candidates": rows,
            "leanest": leanest,
            "leanest_ratio": rows[leanest]["ratios"]["peak_mib"],
            "aim": AIMS.get(batch_size),
            "floor_ratio": report["floor_mib"]["together"] / plain["peak_mib"],
        }
    return report


def tell(report: dict) -> None:
    """The report as text."""
    versions, floor = report["versions"], report["floor_mib"]
    print(f"memory-study, {report['positions']} positions, fp32, torch {versions['torch']}")
    print(f"transformers {versions['transformers']}; ratios are to the plain loop's")
    print(
        f"floor: {floor['together']:.1f} MiB = weights {floor['parameters']:.1f} "
        f"+ gradients {floor['gradients']:.1f} + moments {floor['optimizer']:.1f}"
    )
    for batch_size, batch in report["batches"].items():
        print(f"\n{f'{batch_size} rows':38} peak MiB  ratio  RSS MiB  ratio  s/step ratio")
        for name, row in batch["candidates"].items():
            ratio, line = row["ratios"], f"{name:38} {row['peak_mib']:8.1f} {row['ratios']['peak_mib']:6.3f}"
            if "seconds" in row:
                line += f" {row['rss_mib']:8.0f} {ratio['rss_mib']:6.2f} {row['seconds']:7.2f} {ratio['seconds']:5.2f}"
            print(line)
        aim = f", aim {batch['aim']:.2f}" if batch["aim"] else ""
        print(f"leanest: {batch['leanest']}, {batch['leanest_ratio']:.3f} (floor {batch['floor_ratio']:.3f}{aim})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--recipe", nargs="+", default=RECIPES, help="exact ones")
    parser.add_argument("--steps", type=int, default=3, help="timed steps, after one that is not; 0: peaks alone")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--what", choices=["peak", "alone"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(options.worker, options.batch_size[0], options.what, options.steps)))
        return
    report = compare(options.batch_size, options.recipe, options.steps)
    print(json.dumps(report, indent=1)) if options.json else tell(report)


if __name__ == "__main__":
    main()
