"""Pictures of a step's memory show the numbers they were given."""

import matplotlib
import pytest
from matplotlib import pyplot

from stlm_kit import plots
from stlm_kit.errors import UsageError
from stlm_kit.memory.live_tensors import watch_step
from stlm_kit.plots import memory_step
from stlm_kit.presets import preset

SMALL = preset("laptop-gpt2", n_layers=1, d_model=32, d_ff=64, context_length=16)


@pytest.fixture(scope="module")
def step():
    return watch_step(SMALL, "fp32+eager", 4, 16)


def bars(axes) -> dict[str, float]:
    """{label on the y axis: width of its bar}."""
    names = [label.get_text() for label in axes.get_yticklabels()]
    return dict(zip(names, [bar.get_width() for bar in axes.patches], strict=True))


def test_the_timeline_is_stacked_to_its_height_and_its_peak_is_marked(step):
    axes = plots.step_memory(step.report, "a step").axes[0]
    total = step.report.timeline.total()
    assert [one.get_label() for one in axes.collections] == list(plots.CATEGORY_COLOURS)
    assert set(plots.CATEGORY_COLOURS) == set(step.report.timeline.mib)
    highest = max(path.vertices[:, 1].max() for one in axes.collections for path in one.get_paths())
    assert highest == pytest.approx(max(total))
    mark = next(line for line in axes.lines if line.get_marker() == "v")
    assert mark.get_ydata()[0] == step.report.peak_allocated_mib
    assert step.report.timeline.phases[int(mark.get_xdata()[0])] == step.report.peak_phase
    assert [text.get_text() for text in axes.texts] == ["forward", "backward", "update"]


def test_steps_of_different_lengths_fill_the_width(step):
    other = watch_step(SMALL, "fp32+eager+checkpoint", 4, 16)
    axes = plots.step_totals({"kept": step.report, "checkpointed": other.report}).axes[0]
    kept, checkpointed = axes.lines
    assert len(kept.get_ydata()) < len(checkpointed.get_ydata())
    assert kept.get_xdata()[-1] == checkpointed.get_xdata()[-1] == 1
    assert list(kept.get_ydata()) == step.report.timeline.total()


def test_the_cursor_names_the_tensors_and_their_bars_add_up(step):
    total = step.report.timeline.total()
    for operation in (0, total.index(max(total)), len(total) - 1):
        left, right = plots.tensors_alive(step, operation, most=3).axes
        shown = bars(right)
        assert sum(shown.values()) == pytest.approx(total[operation])
        assert len(shown) == 4 and list(shown)[-1].endswith(" more")
        assert any(list(line.get_xdata()) == [operation, operation] for line in left.lines)
    assert plots.tensors_alive(step, 0).axes[0].get_title(loc="left").startswith("forward: ")
    with pytest.raises(UsageError, match="no operation -1"):
        plots.tensors_alive(step, -1)


def test_tensors_of_one_kind_are_one_row():
    def tensor(mib, category="activations", shape=(2, 3), operation="_softmax", module="blocks.0"):
        return {"mib": mib, "category": category, "shape": list(shape), "operation": operation, "module": module}

    tensors = [
        tensor(5.0), tensor(4.0, module="blocks.1"), tensor(7.0, operation="addmm", module="head"),
        tensor(1.0, "parameters", (9,)), tensor(2.0, "parameters", (8, 8)), tensor(0.5, operation="view"),
    ]  # fmt: skip
    rows = memory_step.rows_of_tensors(tensors, 3)
    assert rows == [
        ("2 × softmax [2, 3]", 9.0, "activations"),
        ("head: addmm [2, 3]", 7.0, "activations"),
        ("2 × parameters", 3.0, "parameters"),
        ("1 more", 0.5, ""),
    ]
    assert memory_step.rows_of_tensors(tensors, 9)[-1] == ("blocks.0: view [2, 3]", 0.5, "activations")


def test_the_stack_says_whether_it_fits_and_a_setting_is_predicted_once():
    sizes = {"context": 32, "vocab_size": 257, "n_layers": 1}
    memory_step.predicted.cache_clear()
    small = plots.memory_stack("fp32+sdpa", batch_size=2, **sizes)
    assert small.axes[0].get_title(loc="left").endswith("fits into 20 GB")
    report = memory_step.predicted("fp32+sdpa", 2, 32, 257, 1, 0)
    assert memory_step.predicted.cache_info().misses == 1
    stacked = [bar.get_height() for bar in small.axes[1].patches][: len(plots.CATEGORY_COLOURS)]
    assert sum(stacked) == pytest.approx(report.peak_allocated_mib)
    large = plots.memory_stack("fp32+eager", batch_size=2**15, **sizes)
    assert large.axes[0].get_title(loc="left").endswith("too large for 20 GB")


@pytest.mark.parametrize("padding", [-1, 100])
def test_padding_is_a_percentage(padding):
    with pytest.raises(UsageError, match="percentage of padding"):
        plots.memory_stack("fp32", 2, 32, 257, 1, padding)


def test_a_waterfall_hangs_each_bar_between_its_neighbours():
    figure = plots.waterfall(
        {"one": [("start", 100.0), ("a", 60.0), ("b", 60.0)], "other": [("start", 100.0), ("b", 110.0)]}
    )
    one, other = figure.axes
    assert [(bar.get_x(), bar.get_width()) for bar in one.patches] == [(0, 100), (60, 40), (60, 0), (0, 60)]
    assert [text.get_text().strip() for text in one.texts] == ["100", "-40", "0", "60"]
    assert [text.get_text().strip() for text in other.texts] == ["100", "+10", "110"]
    assert [label.get_text() for label in one.get_yticklabels()] == ["start", "a", "b", "what is left"]
    assert one.patches[1].get_facecolor() != other.patches[1].get_facecolor()  # a saving and its opposite


def test_a_printed_cell_off_the_recorded_one_is_a_cross_with_its_distance():
    rows = {"FP32": [(32, 100.0, 100.1, 100.0), (64, 220.0, 200.0, 201.0)]}
    left, right = plots.printed_cells(rows, "cells").axes
    marks = {line.get_marker(): line for line in left.lines if len(line.get_xdata()) == 1}
    assert marks["x"].get_ydata()[0] == 220 and marks["o"].get_ydata()[0] == 100
    assert [text.get_text().strip() for text in right.texts] == ["+10.0 %"]
    assert [label.get_text() for label in right.get_yticklabels()] == ["FP32, 32", "FP32, 64"]


def test_figures_are_closed_and_in_no_one_elses_style(step):
    before = dict(matplotlib.rcParams)
    plots.step_memory(step.report)
    plots.waterfall({"one": [("start", 2.0), ("a", 1.0)]})
    assert dict(matplotlib.rcParams) == before
    assert not pyplot.get_fignums()
