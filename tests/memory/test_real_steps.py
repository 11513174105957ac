"""Predictions beside real CPU steps: nothing is fitted, and the profiler knows nothing of the predictor."""

import os
import random

import pytest

from stlm_kit.memory import measure_peak, predict_peak
from stlm_kit.presets import preset

pytestmark = pytest.mark.usefixtures("one_thread")

# Forty of them where STLM_FUZZ is set (`make fuzz`), the first few of the same series otherwise.
N = 40 if "STLM_FUZZ" in os.environ else 4
SIZES = ("peak_allocated_mib", "after_forward_mib", "after_backward_mib")


def errors(config, recipe, batch_size, sequence_length, valid_fraction=1.0, span="step", accumulation_steps=1):
    sizes = config, recipe, batch_size, sequence_length, valid_fraction
    predicted = predict_peak(*sizes, span=span, semantics="cpu", accumulation_steps=accumulation_steps)
    measured = measure_peak(*sizes, span=span, accumulation_steps=accumulation_steps, repeats=0)
    assert measured.found == "measured" and predicted.found == "predicted"
    return {name: getattr(predicted, name) / getattr(measured, name) - 1 for name in SIZES}


@pytest.mark.parametrize("number", range(N))
def test_a_drawn_configuration(number, drawn):
    chosen = drawn(random.Random(number), smallest=128)
    found = errors(*chosen)
    print(f"{number:2} {chosen.recipe:45} " + " ".join(f"{100 * error:+.3f} %" for error in found.values()))
    assert max(map(abs, found.values())) <= 0.005, (chosen, found)


@pytest.mark.parametrize(
    "changes",
    [
        {"n_layers": 1},
        {"n_layers": 6, "d_model": 96, "n_heads": 3},
        {"d_model": 320, "n_heads": 10, "d_ff": 448},
        {"n_heads": 2, "vocab_size": 3001},
        {"vocab_size": 20000, "n_layers": 2},
    ],
    ids=str,
)
def test_other_layers_widths_heads_and_vocabularies(changes):
    config = preset("memory-study", **{"vocab_size": 5000, **changes})
    found = errors(config, "fp32+eager+study", 4, 96, 0.24, span="forward_backward")
    assert max(map(abs, found.values())) <= 0.001, found


def test_the_parts_are_those_that_were_measured():
    sizes = "laptop-llama", "fp32+checkpoint+foreach", 8, 64
    predicted, measured = predict_peak(*sizes, semantics="cpu"), measure_peak(*sizes, repeats=0)
    for category, mib in measured.by_category.items():
        assert predicted.by_category[category] == pytest.approx(mib, abs=0.05), category
    largest = [(row["shape"], row["operation"], row["module"]) for row in measured.alive_at_peak[:5]]
    assert [(row["shape"], row["operation"], row["module"]) for row in predicted.alive_at_peak[:5]] == largest
