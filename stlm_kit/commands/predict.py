"""`stlm predict`: the predicted memory of a training step, for a preset and recipe or for a study's runs."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from stlm_kit.commands.console import plain_table, print_table
from stlm_kit.errors import UsageError
from stlm_kit.progress import Waiting
from stlm_kit.reproduce.trace_cache import kept

SHOWN = 12  # how many of the tensors alive at the peak are listed


def add_predict(parser: argparse.ArgumentParser) -> None:
    """Add the options of `stlm predict`."""
    parser.add_argument("--preset", help="which decoder (stlm presets lists them)")
    parser.add_argument("--recipe", help="how a step is computed, such as bf16+flash (default: fp32)")
    parser.add_argument("--batch-size", type=int, help="rows in a batch")
    parser.add_argument("--sequence-length", type=int, help="input positions in a row (default: the preset's)")
    parser.add_argument("--accumulation-steps", type=int, help="batches in a step (default: 1)")
    parser.add_argument(
        "--valid-fraction", type=float, metavar="SHARE", help="positions with a real target; the rest is padding"
    )
    spans = ["step", "forward_backward"]
    parser.add_argument(
        "--span",
        choices=spans,
        help="the whole step (default), or forward and backward alone, as the memory study read it",
    )
    parser.add_argument("--window", dest="span", choices=spans, help=argparse.SUPPRESS)  # an earlier name of the option
    parser.add_argument("--semantics", choices=["cuda", "cpu"], help="whose memory: cuda (default) or cpu")
    parser.add_argument(
        "--budget", metavar="NAME|MIB", help="say too how large a batch fits: mig-20gb, device, or a number of MiB"
    )
    parser.add_argument(
        "--device",
        metavar="NAME",
        help="which GPU to predict for, and whether the step fits it: t4, rtx-4090, rtx-5090, mig-10gb, mig-20gb, "
        "a100-40gb, a100-80gb, h100-80gb, h200; with --try, cuda or cpu: where to train",
    )
    parser.add_argument(
        "--try", action="store_true", default=None, help="with --budget: find the largest batch by training as well"
    )
    parser.add_argument("--set", action="append", metavar="NAME=VALUE", help="any other setting or field")
    parser.add_argument("--study", help="instead: every run that a study recorded (memory), beside what it recorded")
    parser.add_argument("--write", action="store_true", help="with --study: renew the predictions that it keeps, too")
    parser.add_argument("--json", action="store_true", help="every figure")


def run_predict(options: argparse.Namespace) -> int:
    """`stlm predict`. Raises UsageError for unknown names, sizes out of range and wrong combinations."""
    if options.write and options.study is None:
        raise UsageError("--write renews the predictions of a study; give --study as well.")
    return predict_study(options) if options.study is not None else predict_preset(options)


def predict_study(options: argparse.Namespace) -> int:
    """Print the prediction for each recorded run, and the worst error."""
    left = [name for name, value in vars(options).items() if name not in OF_A_STUDY and value is not None]
    if left:
        raise UsageError(f"--study says what is predicted; leave out --{left[0].replace('_', '-')}.")
    from stlm_kit.studies.memory.recorded_runs import study_cells

    if options.write:
        from stlm_kit.studies.memory.predictions import write_predictions

        kept = write_predictions(options.study)
        print(f"{len(kept)} predicted cells are kept and up to date.", file=sys.stderr)
    with Waiting("predicting") as waiting:
        cells = study_cells(options.study, waiting)
    if options.json:
        print(json.dumps([cell.to_dict() for cell in cells], indent=1))
        return 0
    table = plain_table("technique", "batch", "predicted", "recorded", "published", "error", "after forward", "error")
    for cell in cells:
        table.add_row(
            cell.technique,
            str(cell.batch_size),
            f"{cell.predicted_mib:,.2f}",
            f"{cell.recorded_mib:,.2f}",
            f"{cell.published_mib:,.2f}",
            f"{cell.error:+.3%}",
            f"{cell.after_forward_predicted_mib:,.2f}",
            f"{cell.after_forward_error:+.3%}",
        )
    print_table(table)
    print("MiB; errors against what was recorded, not against what was published (five cells are misprints).")
    worst, forward = max(abs(cell.error) for cell in cells), max(abs(cell.after_forward_error) for cell in cells)
    print(f"Worst error of the peak {worst:.3%}, of memory after forward {forward:.3%}, over {len(cells)} runs.")
    return 0


OF_A_STUDY = {"study", "write", "json", "debug", "command"}


def predict_preset(options: argparse.Namespace) -> int:
    """Print one `MemoryReport`, and the largest batch where a budget is given."""
    for name in ("preset", "batch_size"):
        if getattr(options, name) is None:
            raise UsageError(f"Give --{name.replace('_', '-')}, or --study memory for its recorded runs.")
    from stlm_kit.memory import predict_peak
    from stlm_kit.memory.budget import Budget, find_budget
    from stlm_kit.memory.devices import DEVICES, MARGIN
    from stlm_kit.memory.report import MemoryReport
    from stlm_kit.options import parse_pairs, settings_from
    from stlm_kit.presets import preset, preset_entry
    from stlm_kit.run_teacher import empty_loss_of_run
    from stlm_kit.training.recipe import Recipe

    tried_on, gpu = _device_of_trial(options), _gpu(options)
    budget = None if options.budget is None else find_budget(options.budget)
    if gpu and budget is None:
        budget = Budget(gpu, DEVICES[gpu].safe_mib, f"its memory less the CUDA context and {MARGIN:.0%} to spare")
    given = {name: getattr(options, name) for name in ("preset", "recipe", "batch_size", "accumulation_steps")}
    given = {name: value for name, value in given.items() if value is not None}
    given["context_length"] = preset_entry(options.preset).config.context_length
    settings = settings_from({**given, **parse_pairs(options.set or [])}, texts=True)
    config = preset(settings.preset, **{"context_length": settings.context_length, **settings.overrides})
    recipe, parts = Recipe.named(settings.recipe), settings.accumulation_steps
    length = config.context_length if options.sequence_length is None else options.sequence_length
    share = 1.0 if options.valid_fraction is None else options.valid_fraction
    semantics = options.semantics or tried_on or "cuda"
    trained = None if settings.trainable is None else tuple(settings.trainable)
    shape = {"valid_fraction": share, "accumulation_steps": parts, "trainable": trained}
    shape["loss"] = empty_loss_of_run(settings.distillation, config)
    on, more = {"semantics": semantics, "device": gpu}, {}
    with Waiting("predicting"):
        step = (config, recipe, settings.batch_size, length)
        report = kept(MemoryReport, predict_peak, *step, span=options.span or "step", **on, **shape)
        if budget:
            more = {"budget_mib": budget.mib, "fits": report.fits(budget.mib)}
            more |= _largest_batches((config, recipe, length), budget.mib, shape, on, tried_on)
    if options.json:
        print(json.dumps({**report.to_dict(), **more}))
        return 0
    what = f"{settings.preset} under {recipe.name}, {settings.batch_size:,} rows of {length:,} positions"
    print(f"{what}{'' if share == 1 else f', {share:.1%} of them real'}: predicted, {semantics}, MiB")
    _show(report)
    if budget:
        print(f"\nBudget {budget.name}: {budget.mib:,.0f} MiB, {budget.source}.")
        most = f"the largest batch that fits is {more['largest_batch']:,}" if more["largest_batch"] else "no batch fits"
        print(f"This step {'fits' if more['fits'] else 'does not fit'}; {most}.")
    if tried_on:
        tried = more["largest_batch_tried"]
        print(f"Tried on {tried_on}: {f'the largest batch that trains is {tried:,}' if tried else 'no batch trains'}.")
    print("\nTaken for granted:")
    print("\n".join(f"- {sentence}" for sentence in report.assumptions))
    return 0


def _device_of_trial(options: argparse.Namespace) -> str | None:
    """The device on which batches are tried, or None for no trial. UsageError for options that exclude each other."""
    where = options.device if options.device in ("cuda", "cpu") else None
    if not getattr(options, "try"):
        if where:
            raise UsageError("--device cuda or cpu says where --try trains; give --try as well.")
        return None
    if options.budget is None:
        raise UsageError("--try looks for the largest batch in a budget; give --budget as well.")
    import torch

    device = where or ("cuda" if torch.cuda.is_available() else "cpu")
    if options.semantics not in (None, device):
        raise UsageError(f"A trial on {device} is set beside a prediction for {device}; leave out --semantics.")
    return device


def _gpu(options: argparse.Namespace) -> str | None:
    """The GPU named by --device, or None where it names none. UsageError for a GPU that is not in the table."""
    from stlm_kit.memory.devices import device_named

    return None if options.device in (None, "cuda", "cpu") else device_named(options.device).name


def _largest_batches(
    step: tuple, budget_mib: float, shape: dict[str, Any], on: dict[str, str | None], tried_on: str | None
) -> dict[str, int | str]:
    """The largest batch by prediction, and by trial where a device is given. `step`: config, recipe, positions."""
    from stlm_kit.memory.budget import find_largest_batch, largest_batch

    config, recipe, length = step
    found = {"largest_batch": kept(int, largest_batch, config, recipe, budget_mib, length, **on, **shape)}
    if tried_on:
        tried = find_largest_batch(config, recipe, length, device=tried_on, limit_mib=budget_mib, **shape)
        found |= {"largest_batch_tried": tried, "tried_on": tried_on}
    return found


def _needed(report) -> str:
    return "" if report.needed_mib is None else f" (of which {report.needed_mib:,.1f} are needed)"


def _show(report) -> None:
    """Print the report's figures, what the peak is made of, and the largest tensors alive at the peak."""
    where = "whole step" if report.span == "step" else "forward and backward"
    print(f"peak {report.peak_allocated_mib:,.1f} ({where}; it lies in the {report.peak_phase} phase)")
    print(
        f"reserved {report.peak_reserved_mib:,.1f}{_needed(report)}, after forward {report.after_forward_mib:,.1f}, "
        f"after backward {report.after_backward_mib:,.1f}\n"
    )
    parts = plain_table("at the peak", "MiB", "share")
    for category, mib in report.by_category.items():
        parts.add_row(category, f"{mib:,.1f}", f"{mib / report.peak_allocated_mib:.1%}")
    print_table(parts)
    alive = plain_table("tensors alive at the peak", "MiB", "shape", "made by", "in")
    for tensor in report.alive_at_peak[:SHOWN]:
        shape = " x ".join(f"{size:,}" for size in tensor["shape"])
        made = f"{tensor['operation']} ({tensor['phase']})"
        alive.add_row(tensor["category"], f"{tensor['mib']:,.1f}", f"{shape} {tensor['dtype']}", made, tensor["module"])
    print()
    print_table(alive)
    if (left := len(report.alive_at_peak) - SHOWN) > 0:
        rest = sum(tensor["mib"] for tensor in report.alive_at_peak[SHOWN:])
        print(f"and {left:,} more with {rest:,.1f} MiB together")
