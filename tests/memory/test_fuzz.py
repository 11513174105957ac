"""Any valid configuration is predicted, any invalid one refused with a sentence.

STLM_FUZZ=200 draws 200 valid and 100 invalid ones from a fresh seed, which a failure names; by default 10 and 10 from a
fixed one. STLM_FUZZ_SEED repeats a run.
"""

import math
import os
import random
import time

import pytest

from stlm_kit.errors import UsageError
from stlm_kit.memory import predict_peak
from stlm_kit.presets import preset
from stlm_kit.training.recipe import Recipe

N = int(os.environ.get("STLM_FUZZ", 10))
SEED = int(os.environ.get("STLM_FUZZ_SEED", time.time_ns() % 2**31 if "STLM_FUZZ" in os.environ else 1))


@pytest.mark.parametrize("number", range(N))
def test_a_valid_configuration_is_predicted(number, drawn):
    rng = random.Random(f"{SEED} valid {number}")
    on_gpu = rng.random() < 0.7
    chosen = drawn(rng, smallest=1, on_gpu=on_gpu)
    std = rng.choice([0.0, 0.0, rng.uniform(0, 0.5)])
    sizes = chosen[:5]
    where = {"span": chosen.span, "semantics": "cuda" if on_gpu else "cpu"}
    report = predict_peak(*sizes, std, **where, accumulation_steps=chosen.accumulation_steps)
    told = f"STLM_FUZZ_SEED={SEED}, number {number}: {chosen}, {std}"
    assert 0 < report.after_backward_mib <= report.peak_allocated_mib * (1 + 1e-9), told
    assert report.after_forward_mib <= report.peak_allocated_mib * (1 + 1e-9), told
    assert report.peak_allocated_mib <= report.peak_reserved_mib * (1 + 1e-9), told
    assert all(mib >= 0 for mib in report.by_category.values()), told
    if not std:
        assert sum(report.by_category.values()) == pytest.approx(report.peak_allocated_mib), told
        assert max(report.timeline.total()) <= report.peak_allocated_mib * (1 + 1e-9) or chosen.span != "step", told


def _wrong(rng: random.Random) -> dict:
    """One wrong thing in an otherwise good request."""
    return rng.choice(
        [
            {rng.choice(["batch_size", "sequence_length", "accumulation_steps"]): value}
            for value in (0, -rng.randint(1, 99), 1.5, "8", None, True, 2**40, math.nan)
        ]
        + [{"valid_fraction": value} for value in (0, -0.1, 1.01, math.nan, math.inf, "half", None, True)]
        + [{"valid_fraction_std": value} for value in (-0.1, 0.51, math.nan, math.inf, "wide", None)]
        + [{"span": value} for value in ("backward", "", None, 3)]
        + [{"semantics": value} for value in ("tpu", "", None, 1)]
        + [{"config": value} for value in ("memory", "", None, 7, Recipe())]
        + [{"recipe": value} for value in ("fp8", "", "bf16+fp32", None, 7, preset("laptop-gpt2"))]
        + [{"recipe": value} for value in ("fp32+flash", "chunked+kept", "masked+valid", "fp16+in-backward")]
        + [
            {"recipe": "flex", "config": preset("laptop-gpt2", dropout=0.1)},
            {"recipe": "flash", "config": preset("laptop-gpt2", d_model=1040, n_heads=4)},
            {"recipe": "in-backward", "accumulation_steps": 2},
            {"sequence_length": 129},  # the preset has learned 128 positions
            *({"recipe": recipe, "semantics": "cpu"} for recipe in ("tf32", "fp16", "flash", "flex")),
        ]
    )


@pytest.mark.parametrize("number", range(max(N // 2, 10)))
def test_an_invalid_one_is_refused_with_a_sentence(number):
    rng = random.Random(f"{SEED} invalid {number}")
    wrong = _wrong(rng)
    request = {"config": "laptop-gpt2", "recipe": "fp32", "batch_size": 2, "sequence_length": 8, **wrong}
    with pytest.raises(UsageError) as refusal:
        predict_peak(**request)
    sentence = str(refusal.value)
    assert sentence.endswith((".", "?")) and "\n" not in sentence, f"STLM_FUZZ_SEED={SEED}: {wrong}: {sentence}"
