"""Answers to the claims of the source `memory` by prediction: its own cells, and its recommendations for later work.

The cells are listed in the study file under `predicted:` and kept as rows (predictions.py). Sizes are in MiB.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from itertools import pairwise

from stlm_kit.errors import KitError
from stlm_kit.ledger.answers import Answer, answers
from stlm_kit.model.counting import MIB, STATE_BYTES, counted
from stlm_kit.presets import preset
from stlm_kit.studies.memory.predictions import predicted

BATCH_SIZES = (32, 64, 128)
# {technique in the study's result files: in the names of the kit's runs}
TECHNIQUES = {
    "baseline": "fp32",
    "bf16": "bf16",
    "bf16_flash": "flash",
    "bf16_window16": "window-16",
    "bf16_window32": "window-32",
    "gradcp": "checkpoint",
}
CLAIMED = ("base", "bf16", "flash", "w16", "w32", "gradcp")  # in the claims' ids, in the same order


class NotPredicted(KitError):
    """A cell without a row."""


def foretold(*claim_ids: str) -> Callable:
    """As `answers`, but a claim whose cells are not predicted yet stays open, with that reason."""

    def register(function: Callable[[dict], Answer]) -> Callable[[dict], Answer]:
        @wraps(function)
        def answer(setting: dict) -> Answer:
            try:
                return function(setting)
            except NotPredicted as missing:
                return Answer(None, how=str(missing))

        return answers(*claim_ids)(answer)

    return register


def cell(name: str) -> dict:
    """One predicted cell. NotPredicted where no row holds it."""
    known = predicted("memory")
    if name not in known:
        raise NotPredicted(f"The cell {name!r} is not predicted yet; `stlm predict --study memory --write` does it.")
    return known[name]


def peak(name: str) -> float:
    """A cell's peak in MiB, the mean over batches."""
    return cell(name)["peak_allocated_mib"]


def cell_of(run: str) -> str:
    """The cell of a recorded run: "bf16_flash_bs32" is "flash-b32"."""
    technique, batch_size = run.rsplit("_bs", 1)
    return f"{TECHNIQUES[technique]}-b{batch_size}"


def saved(name: str, baseline: str) -> float:
    """How much lower one cell's peak is than another's, in %."""
    return 100 * (1 - peak(name) / peak(baseline))


def savings(technique: str, baseline: str) -> dict[str, float]:
    """{batch size: % saved} by a technique relative to another, both named as in the result files."""
    pair = TECHNIQUES[technique], TECHNIQUES[baseline]
    return {f"batch {size}": saved(*(f"{name}-b{size}" for name in pair)) for size in BATCH_SIZES}


# The study's own cells


@foretold(*(f"mem.{technique}.bs{size}.peak_mb" for technique in CLAIMED for size in BATCH_SIZES))
def predicted_peak(setting):
    """Peak of forward and backward, predicted without a GPU; mean over batches of the study's padding"""
    return Answer(peak(cell_of(setting["run"])), by="predicted")


@foretold(*(f"mem.{technique}.bs{size}.reduction_pct_derived" for technique in CLAIMED[1:] for size in (32, 64)))
def predicted_saving(setting):
    """1 - peak / baseline's peak, both predicted"""
    return Answer(saved(cell_of(setting["run"]), cell_of(setting["baseline"])), by="predicted")


@foretold("mem.expected.bf16.mem_pct", "mem.expected.flash.mem_pct", "mem.expected.gradcp.mem_pct")
def predicted_savings(setting):
    """1 - peak / baseline's peak at each batch size, both predicted"""
    return Answer(savings(setting["technique"], setting["baseline"]), by="predicted")


@foretold("mem.attn.small_fraction")
def attention_is_small(setting):
    """What FlashAttention takes off BF16's peak, both predicted"""
    share = savings("bf16_flash", "bf16")[f"batch {setting['batch_size']}"]
    how = f"by prediction FlashAttention takes {share:.1f} % off BF16's peak"
    return Answer(share < setting["small_below_pct"], how=how, by="predicted")


@foretold("mem.expected.window.mem")
def windows_need_less(setting):
    """Whether a window lowers the predicted peak of FlashAttention, at the study's length or any longer one"""
    gains = [saved(*pair) for pair in window_pairs()]
    how = (
        f"by prediction a window lowers the peak by {max(gains):.3f} % at most, from 255 to 4,096 positions; "
        "FlashAttention's buffers have one size for every window"
    )
    return Answer(max(gains) > setting["noise_pct"], how=how, by="predicted")


@foretold("mem.window.no_benefit")
def windows_save_nothing(setting):
    """Whether the predicted peaks with and without a window are the same"""
    most = max(abs(saved(*pair)) for pair in window_pairs())
    return Answer(most < setting["noise_pct"], how=f"predicted peaks differ by {most:.3f} % at most", by="predicted")


def window_pairs() -> list[tuple[str, str]]:
    """(cell with a window, the same without) at each batch size of the study and at each length."""
    pairs = [(f"window-{window}-b{size}", f"flash-b{size}") for window in (16, 32) for size in BATCH_SIZES]
    return pairs + [(f"window-32-tokens-{length}", f"flash-tokens-{length}") for length in LENGTHS]


LENGTHS = (256, 512, 1024, 2048, 4096)


@foretold("mem.gradcp.reduces_activations_only")
def same_after_backward(setting):
    """Whether as much is left after backward with checkpointing as without, predicted"""
    left = [[cell(f"{name}-b{size}")["after_backward_mib"] for name in ("checkpoint", "fp32")] for size in BATCH_SIZES]
    most = max(abs(checkpointed - plain) for checkpointed, plain in left)
    how = f"after backward, predicted memory with and without checkpointing differs by {most:.1f} MiB at most"
    return Answer(most < setting["noise_mib"], how=how, by="predicted")


@foretold("mem.flash.not_materialised")
def no_score_matrix(setting):
    """What a step keeps as rows grow and the batch shrinks alike, with eager attention and with FlashAttention"""
    short, long = (str(length) for length in setting["context_lengths"])
    kept = {
        technique: [cell(f"{technique}-tokens-{length}")["after_forward_mib"] for length in (short, long)]
        for technique in ("flash", "bf16")
    }
    growth = {technique: 100 * (after / before - 1) for technique, (before, after) in kept.items()}
    how = (
        f"from {short} to {long} positions, as many of them in a batch, the predicted memory after forward grows by "
        f"{growth['flash']:.2f} % with FlashAttention and by {growth['bf16']:.0f} % with eager attention"
    )
    return Answer(growth["flash"] < setting["same_within_pct"] < growth["bf16"], how=how, by="predicted")


@foretold("mem.bf16.all_tensors")
def everything_halves(setting):
    """What is left after backward, in BF16 and in FP32, predicted"""
    bf16, fp32 = (cell(cell_of(setting[name]))["after_backward_mib"] for name in ("run", "baseline"))
    unhalved = 2 * bf16 - fp32  # zero if every tensor were half as wide
    state = counted(setting["preset"])["total"] * STATE_BYTES / MIB
    how = f"after backward {unhalved:,.0f} MiB stay as wide; weights, gradients and moments are {state:,.0f} MiB"
    return Answer(unhalved < state / 2, how=how, by="predicted")


@foretold("mem.findings.optimal")
def bf16_with_flash_is_best(setting):
    """Whether BF16 with FlashAttention has the lowest peak: of the study's cells, and of all that can be combined"""
    size = setting["batch_size"]
    study = min(TECHNIQUES.values(), key=lambda technique: peak(f"{technique}-b{size}"))
    plain, lean = (peak(f"{name}-packed") for name in ("bf16-flash", "bf16-flash-chunked-checkpoint"))
    how = (
        f"predicted: of the six techniques {study} has the lowest peak (as low as with a window); packed, the update "
        f"included, BF16 with FlashAttention takes {plain:,.0f} MiB, a chunked loss and checkpointing added {lean:,.0f}"
    )
    same = peak(f"flash-b{size}") <= peak(f"{study}-b{size}") * 1.001
    return Answer({"of what was run": same, "of what can be combined": plain <= lean}, how=how, by="predicted")


@foretold("mem.exp.bs128_is_max")
def largest_batch(setting):
    """Where the line through the predicted FP32 peaks at two batch sizes meets the GPU's memory"""
    small, large = setting["batch_sizes"]
    slope = (peak(f"fp32-b{large}") - peak(f"fp32-b{small}")) / (large - small)
    rest = peak(f"fp32-b{large}") - slope * large
    rows = int((setting["gpu_mib"] - rest) / slope)
    readings = {"of all batch sizes": rows, "of powers of two, as its batch sizes are": 2 ** (rows.bit_length() - 1)}
    return Answer(readings, by="predicted")


# Recommendations for later work


def checkpointing_by_depth(plain: str = "fp32") -> dict[int, float]:
    """{layers: % of the peak that checkpointing saves} at batch size 128."""
    other = "checkpoint" if plain == "fp32" else f"{plain}-checkpoint"
    cells = {n: (f"{other}-b128-layers-{n}", f"{plain}-b128-layers-{n}") for n in (4, 8, 12, 24)}
    if plain == "fp32":
        cells[4] = (f"{other}-b128", f"{plain}-b128")
    return {n: saved(*pair) for n, pair in cells.items()}


def in_words(shares: dict[int, float]) -> str:
    """The savings as a list for a sentence."""
    return ", ".join(f"{share:.0f} % at {n} layers" for n, share in shares.items())


@foretold("mem.gradcp.deeper_better")
def depth_that_pays(setting):
    """The depth from which checkpointing saves what the study calls typical, between predicted depths by a line"""
    shares = checkpointing_by_depth()
    depth = crossing(shares, setting["pays_from_pct"])
    how = (
        f"predicted: it saves {in_words(shares)}; {setting['pays_from_pct']} %, the least that it calls typical, at "
        f"{depth:.1f}. With a chunked loss: {in_words(checkpointing_by_depth('chunked'))}"
    )
    return Answer(depth, how=how, by="predicted")


@foretold("mem.expected.gradcp.typical")
def saving_of_deep_models(setting):
    """What checkpointing saves of the predicted peak in models of some depth"""
    shares = checkpointing_by_depth()
    return Answer({f"{n} layers": shares[n] for n in setting["n_layers"]}, by="predicted")


@foretold("mem.findings.vocab_smaller")
def vocabulary_that_balances(setting):
    """The vocabulary at which the logits weigh as much as what checkpointing saves, between predicted ones by a line"""
    sizes = {size: f"-b128-vocabulary-{size}" for size in setting["vocab_sizes"]}
    sizes[preset(setting["preset"]).vocab_size] = "-b128"
    logits = {size: cell(f"fp32{where}")["by_category"]["logits and loss"] for size, where in sizes.items()}
    layers = {size: peak(f"fp32{where}") - peak(f"checkpoint{where}") for size, where in sizes.items()}
    balance = crossing({size: logits[size] - layers[size] for size in sizes}, 0.0)
    shares = ", ".join(f"{saved(f'checkpoint{where}', f'fp32{where}'):.0f} % at {n:,}" for n, where in sizes.items())
    return Answer(balance, how=f"predicted: checkpointing saves {shares} tokens of vocabulary", by="predicted")


def crossing(values: dict[int, float], level: float) -> float:
    """Where a rising quantity reaches a level, by interpolation between two points. KitError where it does not."""
    points = sorted(values.items())
    for (x, low), (y, high) in pairwise(points):
        if low <= level <= high:
            return x + (y - x) * (level - low) / (high - low)
    raise KitError(f"None of the predicted cells reaches {level:g}; predict more of them.")
