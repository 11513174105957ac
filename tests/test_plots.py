"""Pictures show what they say, in one style, and leave the reader's settings alone."""

import io

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure

import stlm_kit as kit
from stlm_kit import plots


def decoder(**overrides) -> kit.Decoder:
    torch.manual_seed(0)
    return kit.Decoder(kit.preset("laptop-gpt2", n_layers=1, d_model=32, d_ff=64, context_length=16, **overrides))


def leaky() -> kit.Decoder:
    model = decoder()
    for block in model.blocks:
        block.attention.function = lambda q, k, v, **_: torch.nn.functional.scaled_dot_product_attention(q, k, v)
    return model


def size_of(figure: Figure) -> int:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.tell()


def test_influence_is_a_triangle_and_a_leak_is_named_and_coloured():
    causal = plots.influence(decoder(), torch.arange(12))
    past, future = (np.asarray(image.get_array().filled(np.nan)) for image in causal.axes[0].images)
    assert (past[np.tril_indices(12)] > 0).all() and np.isnan(future).all()
    assert "leak" not in causal.axes[0].get_title(loc="left")
    leaking = plots.influence(leaky(), torch.arange(12))
    assert "66 leaks" in leaking.axes[0].get_title(loc="left")  # every one of the 12 * 11 / 2 future positions
    shown = leaking.axes[0].images[1].get_array().filled(np.nan)
    assert np.isfinite(shown[np.triu_indices(12, 1)]).all()


ROWS = [{"step": step, "loss": 5.5 - step / 10} for step in range(1, 11)]


def test_losses_draws_every_run_and_its_validation():
    rows = [*ROWS[:-1], {**ROWS[-1], "validation": {"loss": 4.8, "bits_per_byte": 3.0}}]
    figure = plots.losses({"a": rows, "b": ROWS}, start=np.log(257))
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines["a"].get_ydata()) == [row["loss"] for row in rows]
    assert list(lines["a, validation"].get_ydata()) == [4.8]
    assert "b" in lines and "b, validation" not in lines
    assert plots.losses(ROWS).axes[0].get_ylabel() == "nats per token"


def test_long_runs_are_smoothed_and_levels_are_drawn():
    rows = [{"step": step, "loss": 3.0 + (-1) ** step} for step in range(1, 301)]
    axes = plots.losses(rows, levels={"pairs": 2.5}).axes[0]
    smooth = next(line for line in axes.lines if line.get_label() == "training")
    assert np.abs(np.asarray(smooth.get_ydata())[10:] - 3.0).max() < 0.2
    assert "pairs" in [text.get_text() for text in axes.texts]
    assert plots.running_mean([1, 3, 5, 7], 2) == [1, 2, 4, 6]


def test_validation_loss_is_read_from_a_number_a_loss_or_a_perplexity():
    assert plots.validation_loss({"validation": 1.5}) == 1.5
    assert plots.validation_loss({"validation": {"loss": 1.5, "perplexity": 99.0}}) == 1.5
    assert plots.validation_loss({"validation": {"perplexity": np.e}}) == pytest.approx(1.0)
    assert plots.validation_loss({"loss": 1.0}) is None


@pytest.mark.parametrize("draw", [lambda: plots.losses(ROWS), lambda: plots.influence(decoder(), torch.arange(12))])
def test_figures_are_small_closed_and_in_no_one_elses_style(draw):
    before = dict(matplotlib.rcParams)
    figure = draw()
    assert dict(matplotlib.rcParams) == before
    assert not pyplot.get_fignums()
    assert size_of(figure) < 60_000
    assert max(figure.get_size_inches()) <= 8


def test_the_style_is_drawn_in_and_mistakes_are_not_swallowed():
    assert plots.losses(ROWS).axes[0].lines[0].get_color() == plots.PALETTE[0]
    with pytest.raises(kit.UsageError):
        plots.influence(decoder(), torch.zeros(2, 3, dtype=torch.long))
