"""`stlm train`: train a preset on a corpus, resume an interrupted run, or extend a finished one."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stlm_kit import tracking
from stlm_kit.errors import OtherRun, UsageError
from stlm_kit.paths import runs_dir
from stlm_kit.provenance import duration

if TYPE_CHECKING:
    from stlm_kit.train_from_text import RunSettings
    from stlm_kit.training.loop import TrainResult

OF_A_CONTINUATION = {"steps", "run_dir", "json", "debug", "command", "continue_from", *tracking.TRACKERS}


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add the options of `stlm train`.

    Its help lists every setting, its default, the presets and the parts of a recipe.
    """
    parser.add_argument("--preset", help="which model (stlm presets lists them)")
    parser.add_argument("--corpus", help="a corpus name, or a path to text, jsonl, parquet or a folder")
    parser.add_argument("--tokenizer", help="a name (gpt2, bpe-2048, ...) or a tokenizer.json; default: the preset's")
    parser.add_argument("--recipe", help='how a step is computed, such as "bf16"')
    parser.add_argument("--device", help="auto, cpu, cuda or mps")
    for name, kind in [("steps", int), ("batch-size", int), ("context-length", int), ("seed", int)]:
        parser.add_argument(f"--{name}", type=kind)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument(
        "--eval-documents", type=int, metavar="N", help="score the first N validation documents (default: all of them)"
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="any other setting or field")
    parser.add_argument(
        "--run-dir",
        type=Path,
        help="where the run's files go (default: runs/train/PRESET-CORPUS, or another name beside it where that holds "
        "a run with other settings)",
    )
    parser.add_argument(
        "--continue-from", type=Path, metavar="RUN", help="extend this finished run to --steps, in a folder of its own"
    )
    tracking.add_options(parser)
    parser.add_argument("--json", action="store_true", help="print result.json instead of a summary")
    plain_help = parser.format_help
    parser.format_help = lambda: f"{plain_help()}\n{settings_help()}"


def settings_help() -> str:
    """The help text: every setting with its default and meaning, every preset, every part of a recipe."""
    from stlm_kit.presets import PRESETS
    from stlm_kit.train_from_text import RunSettings
    from stlm_kit.training.recipe import Recipe

    lines = ["settings and their defaults (--set NAME=VALUE reaches them all, and every field of the preset):"]
    for name, field in RunSettings.model_fields.items():
        if name != "overrides":
            default = field.get_default(call_default_factory=True)
            lines.append(f"  {f'{name} = {default}':<34}  {field.description or ''}".rstrip())
    lines += ["", "presets:", *(f"  {name:<20}{entry.source}" for name, entry in PRESETS.items())]
    lines += ["", "parts of a recipe (joined by +, as in bf16+chunked):"]
    lines += [
        f"  {part:<20}{', '.join(f'{key} = {value}' for key, value in sets.items())}"
        for part, sets in Recipe.NAMES.items()
    ]
    return "\n".join(lines) + "\n"


def run_train(options: argparse.Namespace) -> int:
    """`stlm train`. Raises UsageError for options that are out of range, and what `train_from_text` raises."""
    run_dir, trained = _continued(options) if options.continue_from else _trained(options)
    result = {"run_dir": str(run_dir), **trained.result}
    if options.json:
        print(json.dumps(result))
        return 0
    from stlm_kit.data.open_file import shown

    score = result["validation"]
    print(f"{result['steps']} steps, {result['tokens']:,} tokens in {in_words(result)}: {shown(run_dir)}")
    print(f"validation perplexity {score['perplexity']:.2f} a token, {score['bits_per_byte']:.3f} bits a byte")
    if result["made_by_other_code"]:
        print("note: this run was made by other code or library versions than those installed now")
    return 0


def in_words(result: dict[str, Any]) -> str:
    """The time of training, of evaluation and in total, in words. Only the total where the run recorded no other."""
    whole = duration(result["seconds"])
    if not result.get("training_seconds") or result.get("evaluation_seconds") is None:
        return whole
    training, evaluation = (duration(result[f"{part}_seconds"]) for part in ("training", "evaluation"))
    return f"{training} ({result['tokens_per_second']:,.0f} tokens/s), evaluated in {evaluation}, {whole} in all"


def _trained(options: argparse.Namespace) -> tuple[Path, TrainResult]:
    """Train in the folder that was named, or in the first default folder that holds no other run."""
    from stlm_kit.options import settings_from_options
    from stlm_kit.train_from_text import train_from_text

    settings = settings_from_options(options)
    how: dict[str, Any] = {"progress": not options.json, **tracking.chosen(options)}
    how["say"] = None if options.json else partial(print, file=sys.stderr)  # print can write any file name
    if options.run_dir:
        return options.run_dir, train_from_text(settings, options.run_dir, **how)
    taken = None
    for run_dir in default_folders(settings):
        if taken:
            print(f"stlm: {taken} holds a run with other settings; this one goes to {run_dir}.", file=sys.stderr)
            how["say"] = lambda _: None  # the messages were printed already
        try:
            return run_dir, train_from_text(settings, run_dir, **how)
        except OtherRun:
            taken = run_dir
    raise AssertionError("there is always another name")


def default_folders(settings: RunSettings) -> Iterator[Path]:
    """runs/train/PRESET-CORPUS, then the same with a hash of the settings, then that with a number from 2 on."""
    base = runs_dir() / "train" / f"{settings.preset}-{Path(settings.corpus).stem}"
    yield base
    digest = hashlib.sha256(json.dumps(settings.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:6]
    yield base.with_name(f"{base.name}-{digest}")
    number = 2
    while True:
        yield base.with_name(f"{base.name}-{digest}-{number}")
        number += 1


def _continued(options: argparse.Namespace) -> tuple[Path, TrainResult]:
    """Extend a finished run in another folder. All its settings hold except the number of steps."""
    from stlm_kit.continuation import continue_from

    given = [name for name, value in vars(options).items() if name not in OF_A_CONTINUATION and value not in (None, [])]
    if given:
        raise UsageError(f"--continue-from keeps the run's own settings; leave out --{given[0].replace('_', '-')}.")
    if options.steps is None:
        raise UsageError("--continue-from needs --steps, the number of steps in all.")
    run_dir = options.run_dir or options.continue_from.with_name(f"{options.continue_from.name}-to-{options.steps}")
    say = (lambda sentence: None) if options.json else print
    how = {"progress": not options.json, **tracking.chosen(options)}
    trained = continue_from(options.continue_from, options.steps, run_dir, say=say, **how)
    return run_dir, trained
