"""Pictures show what they say, in one style, and leave the reader's settings alone."""

import io
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure

import stlm_kit as kit
from stlm_kit import plots
from stlm_kit.data import TokenFile


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


def test_influence_states_its_log_scale():
    for figure in (plots.influence(decoder(), torch.arange(12)), plots.influence_row({"a": leaky()}, torch.arange(12))):
        bar = figure.axes[-1]
        assert "log scale" in bar.get_ylabel()
        written = [label.get_text() for label in bar.get_yticklabels()]
        assert written == ["none", "≤ 0.0001", "0.001", "0.01", "0.1", "1"]


def test_a_row_of_influences_draws_each_model_under_its_name():
    both = {"causal": decoder(), "leaky": leaky()}
    figure = plots.influence_row(both, torch.arange(12))
    for axes, (name, model) in zip(figure.axes, both.items(), strict=False):
        alone = plots.influence(model, torch.arange(12)).axes[0]
        assert axes.get_title(loc="left").startswith(name)
        for drawn, expected in zip(axes.images, alone.images, strict=True):
            assert np.array_equal(drawn.get_array().filled(9), expected.get_array().filled(9))
    assert ["66 leaks" in axes.get_title(loc="left") for axes in figure.axes[:2]] == [False, True]
    assert size_of(figure) < 60_000


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
    assert np.abs(np.asarray(smooth.get_ydata())[10:-10] - 3.0).max() < 0.2
    assert "pairs" in [text.get_text() for text in axes.texts]
    assert plots.running_mean([1, 3, 8, 7, 9], 3) == [1, 4, 6, 8, 9]


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


def test_token_strips_show_every_byte_once():
    gpt2 = kit.load_tokenizer("gpt2")
    for text in ("a żółty 🌻", "", "x" * 200, "$ _ ^"):
        axes = plots.token_strips(text, {"GPT-2": gpt2}).axes[0]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["characters", "bytes", "GPT-2"]
    written = [label.get_text() for label in plots.token_strips("a żółty 🌻", {}).axes[0].texts]
    assert "f09f8cbb" in written and "9" in written and "15" in written  # 9 characters in 15 bytes
    with pytest.raises(kit.KitError, match="surrogate"):
        plots.token_strips("\ud800", {"GPT-2": gpt2})


def test_packing_counts_padding_and_left_out_targets():
    tokens = TokenFile.in_memory(["abc", "defgh", "i", "jklmnop"], kit.load_tokenizer("bytes"))
    padded = kit.DocumentBatches(tokens, 4, 8)[0]
    packed = kit.PackedBatches(tokens, 2, 8, attend_across_documents=False)[0]
    left, right = plots.packing(padded, packed).axes
    assert left.get_title(loc="left").startswith("one document a row: 50 %")
    assert len(right.lines[0].get_xdata()) == packed.targets.numel() - packed.real_targets


def test_bars_and_lines_draw_what_they_are_given():
    bars = plots.grouped_bars({"g": {"a": 1.0, "b": 2.5}, "h": {"b": 3.0}}, "y").axes[0]
    assert sorted(label.get_text() for label in bars.texts) == ["1.00", "2.50", "3.00"]
    line = plots.lines({"a": ([1, 2, 4], [1, 2, 3])}, "x", "y", log_x=True).axes[0]
    assert line.lines[0].get_ydata().tolist() == [1, 2, 3] and line.get_xscale() == "log"


def test_a_schedule_stands_beside_the_loss_it_led_to():
    from stlm_kit import plots

    rows = [{"step": i, "loss": float(i), "learning_rate": 0.1 * i} for i in (1, 2, 3, 4)]
    rows[-1]["validation"] = {"loss": 9.0}
    left, right = plots.schedule_and_loss({"a run": rows}, mean_over=2).axes
    assert left.lines[0].get_ydata().tolist() == [row["learning_rate"] for row in rows]
    assert right.lines[0].get_ydata().tolist() == [1.0, 1.5, 2.5, 3.5]
    assert right.lines[1].get_xydata().tolist() == [[4.0, 9.0]]


def test_seeds_draw_a_dot_a_run_a_line_a_seed_and_a_bar_a_mean():
    from stlm_kit import plots

    axes = plots.seeds({"one": [1.0, 2.0, 3.0], "other": [2.0, 2.0, 5.0]}, "y").axes[0]
    drawn = [line.get_ydata() for line in axes.lines]
    assert [list(y) for y in drawn[:3]] == [[1.0, 2.0], [2.0, 2.0], [3.0, 5.0]]
    assert [list(y) for y in drawn[3:]] == [[1.0, 2.0, 3.0], [2.0, 2.0], [2.0, 2.0, 5.0], [3.0, 3.0]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["one", "other"]


def counts(**overrides) -> dict[str, int]:
    with torch.device("meta"):
        return kit.parameter_table(kit.Decoder(kit.preset("stlm-50m", **overrides)))


def test_parameters_stacks_each_model_and_writes_its_total_or_share():
    tables = {"tied": counts(), "untied": counts(tied_head=False)}
    axes = plots.parameters(tables).axes[0]
    assert [text.get_text().strip() for text in axes.texts] == ["55,888,896", "81,620,480"]
    ends = [max(bar.get_x() + bar.get_width() for group in axes.containers for bar in [group[row]]) for row in range(2)]
    assert ends == pytest.approx([55.888896, 81.62048])
    shares = [text.get_text().strip() for text in plots.parameters(tables, share=True).axes[0].texts]
    assert shares == ["46.0 % vocabulary", "63.1 % vocabulary"]


def test_decoder_size_counts_the_preset_and_heads_change_nothing():
    figure = plots.decoder_size()
    assert figure.axes[0].get_title(loc="left") == "55,888,896 parameters"
    assert [text.get_text().strip() for text in figure.axes[1].texts] == ["107", "213", "853"]  # MiB
    titles = {plots.decoder_size(n_heads=heads).axes[0].get_title(loc="left") for heads in (4, 8, 16, 32)}
    assert titles == {"55,888,896 parameters"}
    with pytest.raises(kit.UsageError, match="does not divide"):
        plots.decoder_size(n_heads=7)


def test_results_have_a_line_an_arm_and_an_interval_where_there_are_runs():
    from stlm_kit.plots import estimates
    from stlm_kit.tables.intervals import Estimate

    values = {f"an arm of a longer name, {i}": Estimate(tuple(2 + i + j / 10 for j in range(i % 4))) for i in range(20)}
    drawn = estimates({"bits_per_byte": list(values.items()), "loss": list(values.items())}, "learning_rate")
    left, right = drawn.axes
    assert [label.get_text() for label in left.get_yticklabels()] == list(values)
    assert (left.get_xlabel(), right.get_xlabel(), left.get_ylabel()) == ("bits per byte", "loss", "learning rate")
    points = [line for line in left.lines if line.get_alpha()]
    assert sum(len(line.get_xdata()) for line in points) == sum(found.n for found in values.values())
    assert [(bar.lines[0].get_xdata()[0], bar.has_xerr) for bar in left.containers] == [
        (found.mean, found.n > 1) for found in values.values() if found.n
    ]
    bars = [path.vertices for bar in left.containers for one in bar.lines[2] for path in one.get_paths()]
    widths = [ends[1, 0] - ends[0, 0] for ends in bars]
    assert widths == pytest.approx([2 * found.half for found in values.values() if found.n > 1])
    boxes = [label.get_window_extent() for label in left.get_yticklabels()]
    assert all(above.y0 >= below.y1 - 1 for above, below in pairwise(boxes))  # none over another
    assert min(box.x0 for box in boxes) >= 0
