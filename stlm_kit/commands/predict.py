"""`stlm predict`: what a training step takes, predicted: a preset under a recipe, or the runs of a recorded study."""

from __future__ import annotations

import argparse
import json
import sys

from stlm_kit.commands.console import plain_table, print_table
from stlm_kit.errors import UsageError

SHOWN = 12  # tensors alive at the peak that are listed


def add_predict(parser: argparse.ArgumentParser) -> None:
    """The options of `stlm predict`."""
    parser.add_argument("--preset", help="which decoder (stlm presets lists them)")
    parser.add_argument("--recipe", help="how a step is computed, such as bf16+flash (default: fp32)")
    parser.add_argument("--batch-size", type=int, help="rows in a batch")
    parser.add_argument("--sequence-length", type=int, help="input positions in a row (default: the preset's)")
    parser.add_argument("--accumulation-steps", type=int, help="batches in a step (default: 1)")
    parser.add_argument(
        "--valid-fraction", type=float, metavar="SHARE", help="positions with a real target; the rest is padding"
    )
    parser.add_argument(
        "--window",
        choices=["step", "forward_backward"],
        help="the whole step (default), or forward and backward alone, as the memory study read it",
    )
    parser.add_argument("--semantics", choices=["cuda", "cpu"], help="whose memory: cuda (default) or cpu")
    parser.add_argument(
        "--budget", metavar="NAME|MIB", help="say too how large a batch fits: mig-20gb, device, or a number of MiB"
    )
    parser.add_argument("--set", action="append", metavar="NAME=VALUE", help="any other setting or field")
    parser.add_argument("--study", help="instead: every run that a study recorded (memory), beside what it recorded")
    parser.add_argument("--write", action="store_true", help="with --study: renew the predictions that it keeps, too")
    parser.add_argument("--json", action="store_true", help="every figure")


def run_predict(options: argparse.Namespace) -> int:
    """`stlm predict`. Raises UsageError, one sentence, for names, sizes and combinations that cannot be."""
    if options.write and options.study is None:
        raise UsageError("--write renews the predictions of a study; give --study as well.")
    return predict_study(options) if options.study is not None else predict_preset(options)


def predict_study(options: argparse.Namespace) -> int:
    """Each recorded run, predicted, and the worst error."""
    left = [name for name, value in vars(options).items() if name not in OF_A_STUDY and value is not None]
    if left:
        raise UsageError(f"--study says what is predicted; leave out --{left[0].replace('_', '-')}.")
    from stlm_kit.studies.memory.recorded_runs import study_cells

    if options.write:
        from stlm_kit.studies.memory.predictions import write_predictions

        kept = write_predictions(options.study)
        print(f"{len(kept)} predicted cells are kept and up to date.", file=sys.stderr)
    cells = study_cells(options.study)
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
    """One `MemoryReport`, and the largest batch where there is a budget."""
    for name in ("preset", "batch_size"):
        if getattr(options, name) is None:
            raise UsageError(f"Give --{name.replace('_', '-')}, or --study memory for its recorded runs.")
    from stlm_kit.config import preset, preset_entry
    from stlm_kit.memory import predict_peak
    from stlm_kit.memory.budget import find_budget, largest_batch
    from stlm_kit.options import parse_pairs, settings_from
    from stlm_kit.training.recipe import Recipe

    budget = None if options.budget is None else find_budget(options.budget)
    given = {name: getattr(options, name) for name in ("preset", "recipe", "batch_size", "accumulation_steps")}
    given = {name: value for name, value in given.items() if value is not None}
    given["context_length"] = preset_entry(options.preset).config.context_length
    settings = settings_from({**given, **parse_pairs(options.set or [])}, texts=True)
    config = preset(settings.preset, **{"context_length": settings.context_length, **settings.overrides})
    recipe, parts = Recipe.named(settings.recipe), settings.accumulation_steps
    length = config.context_length if options.sequence_length is None else options.sequence_length
    share = 1.0 if options.valid_fraction is None else options.valid_fraction
    semantics = options.semantics or "cuda"
    report = predict_peak(
        config,
        recipe,
        settings.batch_size,
        length,
        valid_fraction=share,
        window=options.window or "step",
        semantics=semantics,
        accumulation_steps=parts,
    )
    more = {}
    if budget:
        more = {"budget_mib": budget.mib, "fits": report.fits(budget.mib)}
        more["largest_batch"] = largest_batch(
            config, recipe, budget.mib, length, valid_fraction=share, accumulation_steps=parts, semantics=semantics
        )
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
    print("\nTaken for granted:")
    print("\n".join(f"- {sentence}" for sentence in report.assumptions))
    return 0


def _show(report) -> None:
    """The report's figures, what the peak is made of, and the largest tensors alive in it."""
    where = "whole step" if report.window == "step" else "forward and backward"
    print(f"peak {report.peak_allocated_mib:,.1f} ({where}; it lies in the {report.peak_phase} phase)")
    print(
        f"reserved {report.peak_reserved_mib:,.1f}, after forward {report.after_forward_mib:,.1f}, "
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
