"""Pictures of layers that share weights show the counts, costs and results that they were given."""

import math
from itertools import combinations
from typing import get_args

import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from stlm_kit import plots
from stlm_kit.errors import UsageError
from stlm_kit.layer_sharing import Pattern, owners
from stlm_kit.memory.operations import step_operations
from stlm_kit.memory.predict import predict_peak
from stlm_kit.model import Decoder, count_parameters
from stlm_kit.model.sharing import low_rank_factors
from stlm_kit.plots import sharing
from stlm_kit.plots.picture import png
from stlm_kit.presets import preset
from stlm_kit.tables.intervals import Estimate

SMALL = preset("laptop-distilqwen3", n_layers=1, d_model=16, d_ff=32, n_heads=4, vocab_size=64, context_length=8)


def parts(axes) -> dict[str, list[tuple[int, str]]]:
    """{part: (number in it, its colour) of each box, from the lowest layer to the highest, from left to right}."""
    numbers = {text.get_position(): int(text.get_text()) for text in axes.texts}
    found: dict[str, list[tuple[int, str]]] = {}
    for box in axes.patches:
        if isinstance(box, Rectangle) and box.get_gid():
            middle = (box.get_x() + box.get_width() / 2, box.get_y() + box.get_height() / 2)
            number = next(number for at, number in numbers.items() if at == pytest.approx(middle))
            found.setdefault(box.get_gid(), []).append((number, to_hex(box.get_facecolor())))
    return found


def test_each_part_shows_its_owner_and_a_colour_where_it_is_shared():
    for axes, pattern in zip(plots.sharing_patterns(6, config=SMALL).axes, get_args(Pattern), strict=True):
        who, drawn = owners(pattern, 6), parts(axes)
        drawn["norms"] = drawn["norms"][::2]  # two in each layer
        for part, boxes in drawn.items():
            uses = getattr(who, part)
            assert tuple(number for number, _ in boxes) == uses
            assert [colour == "#ffffff" for _, colour in boxes] == [uses.count(owner) == 1 for owner in uses]
        shared = {box for boxes in drawn.values() for box in boxes if box[1] != "#ffffff"}
        assert len(shared) == len({number for number, _ in shared}) == len({colour for _, colour in shared})


def test_the_share_of_a_pattern_is_that_of_its_layers_parameters():
    settings = SMALL.model_dump(exclude_unset=True)
    counts = [
        count_parameters(Decoder(type(SMALL)(**{**settings, "n_layers": 4, "sharing": pattern})).blocks)
        for pattern in ("none", "looped", "feed-forward")
    ]
    for drawn in (["looped", "feed-forward"], ["none", "looped", "feed-forward"]):
        figure = plots.sharing_patterns(4, drawn, SMALL)
        percents = [100 * count / counts[0] for count in counts[-len(drawn) :]]
        titles = [axes.get_title(loc="left") for axes in figure.axes]
        assert titles == [f"{name}\n{percent:.0f} %" for name, percent in zip(drawn, percents, strict=True)]
    assert f"feed-forward: attention 4, norms 4, feed-forward 1, {percents[-1]:.0f} %" in figure.alternative_text
    with pytest.raises(UsageError, match="looped middle needs"):
        plots.sharing_patterns(2, config=SMALL)


def bars(axes) -> dict[str, list[float]]:
    """{label of a row of bars: heights, the plain decoder's first}."""
    return {row.get_label(): [bar.get_height() for bar in row] for row in axes.containers}


@pytest.fixture(scope="module")
def costs():
    return plots.sharing_costs("all", n_layers=3, d_ff=96, batch_size=2)


def test_costs_are_counts_of_the_model_and_of_the_plain_one(costs):
    sizes = {"n_layers": 3, "d_ff": 96, "layer_index": False}
    configs = [preset("laptop-distilqwen3", **sizes, sharing=sharing) for sharing in ("none", "all")]
    heights = [next(iter(bars(axes).values())) for axes in costs.axes]
    counts = [count_parameters(Decoder(config)) for config in configs]
    assert heights[0] == pytest.approx([count / 1e6 for count in counts])
    forward = [step_operations(config, "fp32", 1, 128).forward / 128 for config in configs]
    assert heights[1] == pytest.approx([count / 1e6 for count in forward])
    assert heights[2] == pytest.approx([16 * count / 2**20 for count in counts])
    for place, config in enumerate(configs):
        report = predict_peak(config, "fp32", 2, 128, span="step", semantics="cpu")
        assert heights[3][place] == report.peak_allocated_mib
        drawn = {label: pair[place] for label, pair in bars(costs.axes[3]).items() if label in report.by_category}
        assert sum(drawn.values()) == pytest.approx(report.peak_allocated_mib, abs=0.1)
        assert drawn == {category: report.by_category[category] for category in drawn}


def test_sharing_saves_parameters_and_neither_operations_nor_activations(costs):
    parameters, operations, _, peak = costs.axes
    said = [[text.get_text().split("\n")[-1] for text in axes.texts if "\n" in text.get_text()] for axes in costs.axes]
    assert said[1] == ["the same"] and said[0] == said[2]
    before, after = bars(parameters)["_container0"]
    assert said[0] == [f"{100 * (after / before - 1):+.0f} %"] and after < before
    assert len(set(bars(operations)["_container0"])) == 1
    assert len(set(bars(peak)["activations"])) == 1
    assert len(set(bars(peak)["parameters"])) == 2
    assert bars(parameters)["_container1"] == [262144 / 1e6] * 2  # the embedding's, hatched
    assert "operations a token" in costs.alternative_text and "(the same)" in costs.alternative_text


def test_factors_save_operations_and_low_rank_changes_cost_some(costs):
    plain, shared = bars(costs.axes[1])["_container0"]
    factored = plots.sharing_costs("none", n_layers=3, d_ff=96, factor_rank=8, batch_size=2)
    changed = plots.sharing_costs("all", n_layers=3, d_ff=96, lora_rank=4, layer_index=True, batch_size=2)
    assert bars(factored.axes[1])["_container0"][0] == plain == shared
    assert bars(factored.axes[1])["_container0"][1] < plain < bars(changed.axes[1])["_container0"][1]
    assert "this model: sharing all, LoRA of rank 4, layer index" in changed.get_suptitle()
    with pytest.raises(UsageError, match="lora_rank changes matrices that layers share"):
        plots.sharing_costs("none", lora_rank=4)


def test_a_setting_that_was_seen_is_not_computed_again(costs):
    before = sharing._costs.cache_info().misses
    again = plots.sharing_costs("all", n_layers=3, d_ff=96, batch_size=2)
    assert sharing._costs.cache_info().misses == before
    assert again.alternative_text == costs.alternative_text


def estimate(mean: float, n: int = 3) -> Estimate:
    return Estimate(tuple(mean + 0.01 * (i - (n - 1) / 2) for i in range(n)))


CROWDED = {f"an arm, {i}": (1e6 * (1 + i // 6), estimate(2 + 0.003 * i, i % 4)) for i in range(24)}


def names(axes) -> list[Text]:
    return [text for text in axes.texts if text.get_text()]


def test_names_of_points_stay_inside_and_cover_neither_each_other_nor_a_mean():
    figure = plots.against_size({"parameters": CROWDED, "operations": CROWDED}, bases=("an arm, 1", "an arm, 14"))
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in names(axes)]
        measured = {name: pair for name, pair in CROWDED.items() if pair[1].n}
        assert {text.get_text() for text in names(axes)} == set(measured)
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
        assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)
        points = axes.transData.transform([(size, found.mean) for size, found in measured.values()])
        assert not any(box.contains(*point) for box in boxes for point in points)


def test_results_stand_at_their_sizes_and_the_bases_are_joined():
    arms = {
        "b": (3e6, estimate(2.0)),
        "a": (1e6, estimate(2.2)),
        "c": (2e6, estimate(2.4, 1)),
        "none": (1, estimate(0, 0)),
    }
    figure = plots.against_size({"parameters": arms}, bases=("b", "a"), title="t")
    axes = figure.axes[0]
    assert axes.get_xscale() == "log" and axes.get_xlabel().startswith("parameters")
    joined = next(line for line in axes.lines if len(line.get_xdata()) == 2)
    assert joined.get_xydata().tolist() == [[1e6, arms["a"][1].mean], [3e6, arms["b"][1].mean]]
    means = [(*bar.lines[0].get_xydata()[0], bar.has_yerr) for bar in axes.containers]
    assert means == [(size, found.mean, found.n > 1) for size, found in arms.values() if found.n]
    ends = axes.containers[0].lines[2][0].get_paths()[0].vertices[:, 1]
    assert ends[1] - ends[0] == pytest.approx(2 * arms["b"][1].half)
    assert sorted(y for line in axes.lines if line.get_alpha() for y in line.get_ydata()) == sorted(
        value for _, found in arms.values() for value in found.values
    )
    assert "b 2 at 3,000,000, a 2.2 at 1,000,000, c 2.4 at 2,000,000" in figure.alternative_text
    with pytest.raises(UsageError, match="no arm 'd' to compare with; the arms are b, a, c, none"):
        plots.against_size({"parameters": arms}, bases=("d",))
    with pytest.raises(UsageError, match="size of 'e' is not above 0"):
        plots.against_size({"parameters": {"e": (0, estimate(2.0))}})


def metrics(shift: float = 0.0, **more) -> dict:
    curve = [6.0 + shift, 5.0 + shift, 4.5 + shift]
    return {
        "steps": 30, "tokens": 3000, "curve_steps": 10, "curve": curve, "first_losses": [7.6 + shift, 7.5, 7.4], **more
    }  # fmt: skip


def test_curves_stand_where_their_tokens_are_and_start_before_any_update():
    figure = plots.curves({"two runs": [metrics(), metrics(0.2)], "one": [metrics(0.4)]}, start=7.625)
    whole, begin = figure.axes
    thick = {line.get_label(): line for line in whole.lines if not line.get_label().startswith("_")}
    assert thick["two runs"].get_xdata().tolist() == [450, 1450, 2450]  # after 4.5, 14.5, 24.5 of 100 tokens each
    assert thick["two runs"].get_ydata() == pytest.approx([6.1, 5.1, 4.6])
    thin = [list(line.get_ydata()) for line in whole.lines if line.get_alpha()]
    assert thin == [metrics()["curve"], metrics(0.2)["curve"]]
    rings = [line.get_xydata()[0].tolist() for line in begin.lines if line.get_fillstyle() == "none"]
    assert rings == [pytest.approx([0, 7.7]), pytest.approx([0, 8.0])]
    assert begin.get_xlim()[1] == 1450 and begin.get_ylim()[1] > 8.0
    dashed = [line.get_ydata()[0] for line in (*whole.lines, *begin.lines) if line.get_linestyle() == "--"]
    assert dashed.count(7.625) == 2
    assert "one: 8.00 before any update, 6.40 at the first point, 4.90" in figure.alternative_text


@pytest.mark.parametrize(
    ("runs", "words"), [([], "'x' has no runs"), ([metrics(curve=[])], "run of 'x' keeps no losses")]
)
def test_an_arm_without_curves_is_refused(runs, words):
    with pytest.raises(UsageError, match=words):
        plots.curves({"x": runs})


def test_what_a_rank_keeps_is_what_the_nearest_matrix_keeps():
    torch.manual_seed(0)
    wide = torch.randn(6, 18) @ torch.diag(torch.linspace(1, 0.1, 18))
    figure = plots.rank_against_error({"wide": wide, "square": torch.randn(6, 6)}, ranks=(1, 4))
    [axes] = figure.axes
    kept = {line.get_label(): line.get_ydata() for line in axes.lines if len(line.get_xdata()) == 6}["wide"]
    for rank in (1, 4, 6):
        first, second = low_rank_factors(wide, rank)
        left = (wide - second @ first).square().sum() / wide.square().sum()
        assert kept[rank - 1] == pytest.approx(100 * (1 - left.item()), abs=1e-3)
    assert [list(line.get_xdata()) for line in axes.lines if line.get_marker() == "o"] == [[1, 4], [1, 4]]
    assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"] == [6 * 18 / 24, 3]
    assert f"wide: {kept[0]:.0f} % at rank 1" in figure.alternative_text
    assert "6 by 18 matrix below rank 4.5" in figure.alternative_text


def test_singular_values_give_the_same_picture_as_their_matrix():
    torch.manual_seed(0)
    matrix = torch.randn(5, 7)
    whole = plots.rank_against_error({"m": matrix}, ranks=(2,))
    values = plots.rank_against_error({"m": torch.linalg.svdvals(matrix).flip(0)}, ranks=(2,), shape=(5, 7))
    for one, other in zip(whole.axes[0].lines, values.axes[0].lines, strict=True):
        assert list(one.get_ydata()) == pytest.approx(list(other.get_ydata()), rel=1e-5)
    assert whole.alternative_text == values.alternative_text


@pytest.mark.parametrize(
    ("matrix", "ranks", "words"),
    [
        (torch.ones(2, 2, 2), (), r"'m' has shape \(2, 2, 2\); give a matrix"),
        (torch.zeros(3, 3), (), "'m' holds nothing but zeros"),
        (torch.eye(3), (4,), "rank 4 is out of range; give ranks from 1 to 3"),
    ],
)
def test_what_has_no_ranks_to_compare_is_refused(matrix, ranks, words):
    with pytest.raises(UsageError, match=words):
        plots.rank_against_error({"m": matrix}, ranks)


DRAWN = {
    "sharing_patterns": lambda: plots.sharing_patterns(8, config=SMALL),
    "sharing_costs": lambda: plots.sharing_costs("all", n_layers=3, d_ff=96, batch_size=2),
    "against_size": lambda: plots.against_size({"parameters": CROWDED, "operations": CROWDED}),
    "curves": lambda: plots.curves({f"arm {i}": [metrics(i / 10)] * 3 for i in range(12)}, start=math.log(2048)),
    "rank_against_error": lambda: plots.rank_against_error({"a name of a matrix": torch.eye(64)}),
}


@pytest.mark.parametrize("name", DRAWN)
def test_each_fits_a_page_with_letters_large_enough_to_read(name):
    figure = DRAWN[name]()
    assert max(figure.get_size_inches()) <= 10
    written = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert min(text.get_fontsize() for text in written) >= 8
    assert len(png(figure)) < 100_000
