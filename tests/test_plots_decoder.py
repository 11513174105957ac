"""The pictures of a decoder's parts: what they draw is what the parts compute."""

import io
from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

import stlm_kit as kit
from stlm_kit import plots
from stlm_kit.model.counting import counted
from stlm_kit.plots.forward_pass import PARTS

PRESETS = ("gpt2-small", "stlm-50m", "memory-study", "laptop-llama")


def boxes(figure) -> dict[str, bool]:
    """{the parts a box belongs to: whether it is drawn dark}."""
    drawn = [patch for patch in figure.axes[0].patches if patch.get_gid()]
    return {patch.get_gid(): sum(to_rgb(patch.get_facecolor())) < 1.5 for patch in drawn}


def written(figure) -> list[str]:
    return [text.get_text().replace("\n", " ") for text in figure.axes[0].texts if text.get_text()]


def test_the_forward_pass_has_every_part_with_the_shapes_of_its_configuration():
    gpt2 = written(plots.forward_pass(kit.preset("gpt2-small")))
    for label in ("token ids", "embedding", "+ positions", "12 blocks", "LayerNorm", "q, k, v", "GELU", "tied head"):
        assert label in gpt2
    assert gpt2.count("batch, seq, 50,257") == 2  # the head gives the logits
    assert gpt2.count("batch, seq, 3,072") == 2 and gpt2.count("batch, 12, seq, seq") == 2
    llama = written(plots.forward_pass(kit.preset("stlm-50m", tied_head=False)))
    assert {"rotate q, k", "RMSNorm", "gate, up", "head", "batch, 16, seq, 32 k, v: 4 heads"} <= set(llama)
    assert "+ positions" not in llama and "batch, seq, 1,536" in llama


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("preset", ["gpt2-small", "stlm-50m"])
def test_exactly_the_lit_part_of_a_forward_pass_is_dark(preset, part):
    drawn = boxes(plots.forward_pass(kit.preset(preset), lit=part))
    assert [names for names, dark in drawn.items() if dark] == [names for names in drawn if part in names.split()]
    assert any(drawn.values())


def test_several_parts_can_be_lit_or_none():
    config = kit.preset("gpt2-small")
    dark = {names for names, is_dark in boxes(plots.forward_pass(config, ("head", "scores"))).items() if is_dark}
    assert dark == {"head", "scores attention"}
    assert not any(boxes(plots.forward_pass(config)).values())
    with pytest.raises(kit.UsageError, match=r"no part 'mlp'; it has ids, embedding, .*, logits\.$"):
        plots.forward_pass(config, lit=("head", "mlp"))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_words_of_a_forward_pass_fit_and_do_not_touch(preset):
    figure = plots.forward_pass(kit.preset(preset))
    assert tuple(figure.get_size_inches()) == (7, 3)
    figure.draw_without_rendering()
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    extents = [text.get_window_extent() for text in texts]
    touching = [(a, b) for a, b in combinations(range(len(texts)), 2) if extents[a].overlaps(extents[b])]
    assert not [(texts[a].get_text(), texts[b].get_text()) for a, b in touching]
    for patch in figure.axes[0].patches:
        if patch.get_gid() and patch.get_gid() != "residual":
            inside, box = [], patch.get_window_extent()
            for text, extent in zip(texts, extents, strict=True):
                if box.contains((extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2):
                    inside.append(text.get_text())
                    assert box.x0 <= extent.x0 and extent.x1 <= box.x1, text.get_text()
            assert len(inside) == 1, patch.get_gid()


def test_attention_weights_are_drawn_as_given_under_their_tokens():
    weights = {"a": torch.rand(3, 3).tril(), "b": torch.eye(3)}
    figure = plots.attention_weights(weights, ["T", " ", "\n"], title="three tokens")
    for axes, (name, table) in zip(figure.axes, weights.items(), strict=False):
        assert np.allclose(axes.images[0].get_array(), table) and axes.images[0].get_clim() == (0, 1)
        assert axes.get_title(loc="left") == name
        assert [label.get_text() for label in axes.get_yticklabels()] == ["T", "␣", "↵"]
    assert len(figure.axes) == 3 and figure.axes[2].get_ylabel() == "attention weight"
    assert "b: 1.00 on itself, 0.00 on the token before" in figure.alternative_text
    assert figure.alternative_text.startswith("Attention weights of three tokens: queries down")
    with pytest.raises(kit.UsageError, match=r"'b' have shape \(3, 3\); 2 tokens need \(2, 2\)"):
        plots.attention_weights({"b": torch.eye(3)}, ["x", "y"])


def test_rotary_pairs_turn_at_their_rates_and_scores_depend_on_the_distance():
    circle, turns, scores = plots.rotary_pairs(head_dim=8, positions=17).axes
    positions = np.arange(17)
    for line, rate, radius in zip(circle.lines, (1, 0.1), (1, 0.6), strict=True):
        assert np.allclose(line.get_xdata(), radius * np.cos(rate * positions), atol=1e-5)
        assert np.allclose(line.get_ydata(), radius * np.sin(rate * positions), atol=1e-5)
    slopes = [line.get_ydata()[-1] / 16 * 2 * np.pi for line in turns.lines]
    assert slopes == pytest.approx([1, 0.1, 0.01, 0.001])
    curve, *queries = scores.lines
    assert [line.get_label() for line in queries] == ["query at 8", "query at 12", "query at 16"]
    for line in queries:
        by_hand = [2 * sum(np.cos(distance * rate) for rate in slopes) for distance in line.get_xdata()]
        assert np.allclose(line.get_ydata(), by_hand, atol=1e-4)
    assert curve.get_ydata()[0] == pytest.approx(8)
    with pytest.raises(kit.UsageError, match="even head_dim"):
        plots.rotary_pairs(head_dim=5)


def test_key_sharing_joins_each_query_head_to_the_key_head_that_attention_reads():
    row = plots.key_sharing(12, (12, 3, 1)).axes
    for axes, number in zip(row, (12, 3, 1), strict=True):
        heads = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        middles = {
            (round(patch.get_x() + patch.get_width() / 2, 6), round(patch.get_y() + 0.18)): patch for patch in heads
        }
        assert len(heads) == 12 + number and len(axes.lines) == 12
        kits = torch.arange(number).repeat_interleave(12 // number).tolist()  # what grouped attention does
        keys = sorted(x for x, y in middles if y == 0)
        for line in axes.lines:
            query, key = line.get_xdata()
            assert keys.index(round(float(key), 6)) == kits[int(query)]
            assert middles[query, 1].get_facecolor() == middles[round(float(key), 6), 0].get_facecolor()
        if number == 3:
            greys = [sum(to_rgb(middles[head, 1].get_facecolor())) / 3 for head in (0, 4, 8)]
            assert min(abs(a - b) for a, b in combinations(greys, 2)) > 0.1  # told apart without colour
    with pytest.raises(kit.UsageError, match="5 key-value heads cannot share 12"):
        plots.key_sharing(12, (12, 5))


def test_the_gate_is_silu_and_its_products():
    functions, products = plots.gate(reach=3.0, ups=(-1.0, 2.0)).axes
    g = torch.linspace(-3, 3, 161)
    lines = {line.get_label(): torch.tensor(line.get_ydata()) for line in (*functions.lines, *products.lines)}
    expected = {"SiLU": F.silu(g), "GELU": F.gelu(g), "ReLU": F.relu(g), "u = -1": -F.silu(g), "u = 2": 2 * F.silu(g)}
    assert lines.keys() == expected.keys()
    for name, line in lines.items():
        assert torch.allclose(line.float(), expected[name], atol=1e-6), name


def test_the_total_of_a_table_is_no_group_of_its_own():
    axes = plots.parameters({"counted": counted("gpt2-small")}).axes[0]
    assert [text.get_text().strip() for text in axes.texts] == ["124,439,808"]


def leaky() -> torch.nn.Module:
    model = kit.Decoder(kit.preset("laptop-gpt2", n_layers=1, d_model=32, d_ff=64, context_length=16))
    model.blocks[0].attention.function = lambda q, k, v, **_: F.scaled_dot_product_attention(q, k, v)
    return model


DRAWN = {
    "forward_pass": (lambda: plots.forward_pass(kit.preset("gpt2-small"), "head"), "Lit: head."),
    "attention_weights": (lambda: plots.attention_weights({"h": torch.eye(9)}, list("abcdefghi")), "h: 1.00 on itself"),
    "rotary_pairs": (plots.rotary_pairs, "after 16 positions pair 0 made 2.5 turns"),
    "key_sharing": (plots.key_sharing, "3 key-value heads, each read by 4"),
    "gate": (plots.gate, "dips to -0.28"),
    "influence": (lambda: plots.influence(leaky(), torch.arange(12), title="x"), "x: 66 outputs change with a later"),
    "influence_row": (lambda: plots.influence_row({"m": leaky()}, torch.arange(12)), "m: 66 outputs change"),
    "parameters": (lambda: plots.parameters({"m": counted("gpt2-small")}), "m 124,439,808"),
    "decoder_size": (plots.decoder_size, "55,888,896 parameters"),
}


@pytest.mark.parametrize("name", DRAWN)
def test_each_says_in_words_what_it_shows_and_is_small(name):
    draw, words = DRAWN[name]
    figure, buffer = draw(), io.BytesIO()
    assert words in figure.alternative_text
    figure.savefig(buffer, format="png")
    assert buffer.tell() < 80_000
