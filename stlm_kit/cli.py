"""The command line: `stlm COMMAND`. It parses options, calls the command and reports errors.

Exit status: 0 done, 1 failed (one sentence on standard error; a traceback with --debug), 2 wrong use, 3 interrupted and
resumable.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stlm_kit.errors import Interrupted, KitError, UsageError
from stlm_kit.interrupts import stopped_like_ctrl_c

if TYPE_CHECKING:
    from stlm_kit.config import ModelConfig

MODEL = "a run directory of `stlm train`, or a folder in Hugging Face's layout"


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    # PASSIVE lets torch's waiting threads sleep. With the default they spin, and on a busy machine two spinning threads
    # made a step up to twenty times slower (LOG.md). Notebook kernels started from here inherit the setting.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):  # replace a character the console lacks
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        with stopped_like_ctrl_c():
            return options.command(options) or 0
    except KitError as error:
        if options.debug:
            raise
        print(f"stlm: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("stlm: Stopped before the next save; start the same command again to go on.", file=sys.stderr)
        return Interrupted.exit_status
    except BrokenPipeError:  # the reader closed the pipe: `stlm ledger | head`
        sys.stderr.close()
        return 0
    except Exception as error:  # an error no module expected: print one sentence, and the traceback only with --debug
        if options.debug:
            raise
        first = next(iter(str(error).strip().splitlines()), "no reason given").rstrip(".")
        print(f"stlm: {type(error).__name__}: {first}; run it with --debug to see where.", file=sys.stderr)
        return KitError.exit_status


def build_parser() -> argparse.ArgumentParser:
    """The parser of `stlm`, with one sub-parser for each command."""
    parser = argparse.ArgumentParser(
        prog="stlm", description="The kit for super tiny language models: train, check, reproduce."
    )
    parser.add_argument("--version", action=Version, help="the kit's version, its source's hash and torch's version")
    common = debug_option(False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function, summary: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary, parents=[common], allow_abbrev=False)
        added.set_defaults(command=function)
        return added

    from stlm_kit.commands import (
        compare,
        course,
        data,
        dev,
        ledger,
        plan,
        practice,
        predict,
        reproduce,
        results,
        status,
        submit,
        train,
    )

    reproduce.add_reproduce(
        command("reproduce", reproduce.run_reproduce, "Execute chapters or a study; write the report.")
    )
    predict.add_predict(command("predict", predict.run_predict, "Predict what a training step takes in memory."))
    plan.add_plan(command("plan", plan.run_plan, "Memory, operations, hours and disk of a study's runs."))
    submit.add_submit(command("submit", submit.run_submit, "Hand a study's unfinished runs to Slurm."))
    status.add_status(command("status", status.run_status, "Where a study's runs stand, and how long they will take."))
    compare.add_compare(command("compare", compare.run_compare, "A study's runs side by side: memory and time."))
    results.add_results(command("results", results.run_results, "Scores over a grid: means, intervals, differences."))
    ledger.add_ledger(command("ledger", ledger.run_ledger, "Published numbers beside what the kit found."))
    train.add_train(command("train", train.run_train, "Train a preset's model on a corpus, resumably."))
    _add_generate(command("generate", run_generate, "Continue a prompt with a trained model."))
    _add_evaluate(command("evaluate", run_evaluate, "Perplexity and bits per byte of a trained model on a text."))
    _add_export(command("export", run_export, "Write a trained model in Hugging Face's layout."))
    texts = command("data", data.run_data, "List corpora, install the data packages, fetch and check corpora.")
    data.add_data(texts, parents=[debug_option()])
    command("presets", run_presets, "List the presets with their parameter counts and sources.")
    teach = command("course", course.run_course, "Release assignments, grade them, export the marks.")
    course.add_course(teach, parents=[debug_option()])
    practice.add_practice(command("practice", practice.run_practice, "Make the student's course: chapters to write."))
    dev.add_commands(command)
    return parser


class Version(argparse.Action):
    """--version: print what a bug report needs."""

    def __init__(self, *names, **options):
        super().__init__(*names, nargs=0, **options)

    def __call__(self, parser, namespace, values, option=None):
        import stlm_kit
        from stlm_kit.provenance import source_hash, versions

        print(
            f"stlm_kit {stlm_kit.__version__}, source {source_hash()[:10]}, torch {versions().get('torch', 'missing')}"
        )
        parser.exit()


def debug_option(default: bool | str = argparse.SUPPRESS) -> argparse.ArgumentParser:
    """A parser that holds --debug.

    default: the value for a command without the flag. For an action of a command (`stlm data get`) keep the default,
    SUPPRESS, so that the action does not overwrite the command's own --debug.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--debug", action="store_true", default=default, help="show the traceback of a failure")
    return parser


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help=MODEL)
    parser.add_argument("--prompt", default="", help="the text to continue")
    parser.add_argument("--max-new-tokens", type=int, default=100)
    parser.add_argument("--temperature", type=float, default=0.8, help="0 picks the likeliest token each time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")


def run_generate(options: argparse.Namespace) -> int:
    """`stlm generate`: print a continuation of the prompt."""
    from stlm_kit.generation import generate
    from stlm_kit.saved_models import load_model

    run = load_model(options.model, options.device)
    text = generate(
        run.model,
        run.tokenizer,
        options.prompt,
        max_new_tokens=options.max_new_tokens,
        temperature=options.temperature,
        seed=options.seed,
    )
    print(text)
    return 0


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help=MODEL)
    parser.add_argument("--text", type=Path, required=True, help="a UTF-8 text file to score as one document")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")


def run_evaluate(options: argparse.Namespace) -> int:
    """`stlm evaluate`: print the perplexity a token and the bits a byte of one text file."""
    from stlm_kit.data.corpora import read_text
    from stlm_kit.evaluation.perplexity import evaluate_text
    from stlm_kit.saved_models import load_model

    text = read_text(options.text)
    run = load_model(options.model, options.device)
    score = evaluate_text(run.model, run.tokenizer, [text], progress=not options.json)
    row = {
        "perplexity": score.perplexity,
        "bits_per_byte": score.bits_per_byte,
        "n_targets": score.n_targets,
        "n_bytes": score.n_bytes,
    }
    print(
        json.dumps(row)
        if options.json
        else f"perplexity {score.perplexity:.2f} a token over {score.n_targets:,} tokens, "
        f"{score.bits_per_byte:.3f} bits a byte over {score.n_bytes:,} bytes (end of document left out)"
    )
    return 0


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help=MODEL)
    parser.add_argument("--to", required=True, choices=["hf"], help="hf: config.json and model.safetensors")
    parser.add_argument("--out", type=Path, help="the folder to write (default: MODEL/hf)")


def run_export(options: argparse.Namespace) -> int:
    """`stlm export`: write a model as a Hugging Face folder. UsageError for a folder that would be overwritten."""
    from stlm_kit.model.huggingface import export_to_hf
    from stlm_kit.saved_models import load_model

    folder = options.out or Path(options.model).expanduser() / "hf"
    if (folder / "checkpoint").exists():  # a run directory and a Hugging Face folder both have a config.json
        raise UsageError(f"{folder} is a run directory, whose config.json would be lost; choose another folder.")
    if folder.resolve() == Path(options.model).expanduser().resolve():
        raise UsageError(f"{folder} is the model itself, and would be written over; choose another folder with --out.")
    run = load_model(options.model)
    export_to_hf(run.model, folder, run.tokenizer)
    print(f"wrote {folder}; load it with transformers' AutoModelForCausalLM.from_pretrained")
    return 0


def run_presets(options: argparse.Namespace) -> int:
    """`stlm presets`: print each preset's name, number of parameters, tokenizer and source."""
    from stlm_kit.presets import PRESETS
    from stlm_kit.progress import Waiting
    from stlm_kit.reproduce.trace_cache import kept

    with Waiting("counting parameters") as waiting:
        for name, entry in waiting.over(PRESETS.items(), "preset"):
            parameters = kept(int, _parameters, entry.config)
            print(f"{name:18} {parameters:>12,} parameters, tokenizer {entry.tokenizer}: {entry.source}")
    return 0


def _parameters(config: ModelConfig) -> int:
    """How many parameters a model has. It imports torch here, because the rest of the command works without it."""
    import torch

    from stlm_kit.model.kinds import build_model
    from stlm_kit.model.parameters import count_parameters

    with torch.device("meta"):
        return count_parameters(build_model(config))
