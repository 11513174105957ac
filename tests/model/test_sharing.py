"""Layers that share weights: counted once, gradients summed, begun as the shared model, refused where they misfit."""

import copy

import pytest
import torch
from torch import nn

from stlm_kit.errors import KitError, UsageError
from stlm_kit.layer_sharing import numbered, owners
from stlm_kit.memory import measure_peak, predict_peak
from stlm_kit.memory.operations import step_operations
from stlm_kit.model import Decoder, count_parameters, parameter_table
from stlm_kit.model.huggingface import export_to_hf
from stlm_kit.model.layers import Factored
from stlm_kit.model.sharing import LowRankChange, low_rank_factors, share_trained

from .conftest import stir, tiny

PATTERNS = ("feed-forward", "attention", "matrices", "all", "pairs", "looped")
EXTRAS = ({}, {"lora_rank": 2}, {"layer_index": True}, {"factor_rank": 3}, {"lora_rank": 3, "factor_rank": 4})
every = pytest.mark.parametrize("pattern", PATTERNS)
with_extras = pytest.mark.parametrize("extras", EXTRAS, ids=lambda extras: "+".join(extras) or "plain")


def shared(pattern: str, n_layers: int = 5, **settings) -> Decoder:
    torch.manual_seed(3)
    return Decoder(tiny(n_layers=n_layers, sharing=pattern, **settings))


def unshared_copy(model: Decoder) -> Decoder:
    """The same numbers in weights of its own for every layer."""
    apart = copy.deepcopy(model)
    apart.blocks = nn.ModuleList(copy.deepcopy(block) for block in model.layers())
    apart.order = None
    for block in apart.blocks:
        for module in block.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(parameter.detach().clone()))
    return apart


def test_the_patterns_layer_by_layer():
    assert owners("none", 3).attention == (0, 1, 2)
    assert owners("pairs", 5).feed_forward == (0, 0, 2, 2, 4)
    assert owners("looped", 5).norms == (0, 1, 1, 1, 4)
    who = owners("matrices", 3)
    assert (who.attention, who.feed_forward, who.norms) == ((0, 0, 0), (0, 0, 0), (0, 1, 2))
    assert owners("all", 4).whole_blocks and not owners("feed-forward", 4).whole_blocks
    assert numbered((0, 0, 2, 2, 4)) == (0, 0, 1, 1, 2)


@every
def test_what_is_shared_is_counted_once_and_the_rest_as_it_was(pattern):
    apart, together = parameter_table(Decoder(tiny(n_layers=5))), parameter_table(shared(pattern))
    who = owners(pattern, 5)
    for part, uses in (("attention", who.attention), ("feed_forward", who.feed_forward)):
        assert together[part] == apart[part] * len(set(uses)) // 5
    assert together["norms"] == (apart["norms"] - 16) * len(set(who.norms)) // 5 + 16  # and the final norm
    assert together["embedding"] == apart["embedding"]


@every
@with_extras
def test_the_gradient_of_a_shared_weight_is_the_sum_over_its_uses(pattern, extras, ids):
    """Against a copy in which every layer has weights of its own: equal numbers forward, summed gradients, float64."""
    together = stir(shared(pattern, **extras)).double()
    apart = unshared_copy(together)
    found, expected = together(ids), apart(ids)
    assert torch.equal(found, expected)
    for out in (found, expected):
        out.square().mean().backward()
    sums: dict[int, torch.Tensor] = {}
    for block, own in zip(together.layers(), apart.layers(), strict=True):
        gradients = {name: parameter.grad for name, parameter in own.named_parameters()}
        for name, parameter in block.named_parameters():
            sums[id(parameter)] = sums.get(id(parameter), 0) + gradients[name]
    assert sums
    for parameter in together.blocks.parameters():
        assert torch.allclose(parameter.grad, sums[id(parameter)], rtol=1e-12, atol=1e-15)


@every
def test_with_low_rank_changes_it_begins_as_the_shared_model(pattern, ids):
    plain, changed = shared(pattern).eval(), shared(pattern, lora_rank=2).eval()
    weights = dict(plain.named_parameters(remove_duplicate=False))
    by_layer = zip(plain.layers(), changed.layers(), strict=True)
    with torch.no_grad():
        for block, own in by_layer:
            theirs = dict(block.named_parameters())
            for name, parameter in own.named_parameters():
                if ".lora_" not in name:
                    parameter.copy_(theirs[name.replace(".shared", "")])
        changed.embedding.weight.copy_(weights["embedding.weight"])
    assert torch.equal(plain(ids), changed(ids))
    changes = [module for module in changed.modules() if isinstance(module, LowRankChange)]
    who = owners(pattern, 5)
    expected = sum(4 for owner in who.attention if who.attention.count(owner) > 1)
    expected += sum(3 for owner in who.feed_forward if who.feed_forward.count(owner) > 1)
    assert len(changes) == expected
    assert all(module.lora_out.weight.abs().max() == 0 and module.lora_in.weight.std() > 0 for module in changes)


@every
@with_extras
def test_sharing_survives_conversion_copying_and_a_state_dict(pattern, extras, ids):
    model = stir(shared(pattern, **extras))
    n = count_parameters(model)
    for moved in (
        copy.deepcopy(model).double(),
        copy.deepcopy(model).to("cpu"),
        copy.deepcopy(model).to(torch.bfloat16),
    ):
        assert count_parameters(moved) == n == sum(parameter.numel() for parameter in moved.parameters())
    loaded = shared(pattern, **extras).eval()
    loaded.load_state_dict(model.state_dict())
    assert count_parameters(loaded) == n
    assert torch.equal(model(ids), loaded(ids))


@every
def test_sharing_saves_no_operation(pattern):
    """A token costs what it costs unshared; a low-rank change adds its two products, forward and twice backward."""
    apart = step_operations(tiny(n_layers=5), "fp32", 2, 12).own
    assert step_operations(tiny(n_layers=5, sharing=pattern), "fp32", 2, 12).own == apart
    changed = shared(pattern, lora_rank=2)
    added = sum(
        2 * 2 * (m.shared.in_features + m.shared.out_features) for m in changed.modules() if hasattr(m, "lora_in")
    )
    counted = step_operations(changed.config, "fp32", 2, 12).own - apart
    assert counted == 3 * added * 2 * 12


def test_a_layer_index_makes_equal_layers_differ(ids):
    """With one block in every place only the index tells the layers apart; without it two layers can be swapped."""
    model = stir(shared("all", n_layers=3, layer_index=True))
    before = model(ids)
    with torch.no_grad():
        model.layer_index.weight.copy_(model.layer_index.weight.flip(0))
    assert not torch.allclose(model(ids), before)
    assert count_parameters(model) - count_parameters(shared("all", n_layers=3)) == 3 * 16


def test_what_writes_into_the_stream_starts_by_uses_or_by_weights():
    sizes = {"n_layers": 16, "d_model": 64, "d_ff": 96}
    for counted, n in (("layers", 16), ("weights", 1)):
        block = shared("all", init_residuals=counted, **sizes).blocks[0]
        for out, other in (
            (block.attention.output, block.attention.query),
            (block.feed_forward.down, block.feed_forward.up),
        ):
            assert (out.weight.std() / other.weight.std()).item() == pytest.approx((2 * n) ** -0.5, rel=0.1)


def test_a_factored_matrix_starts_as_wide_as_a_whole_one():
    sizes = {"n_layers": 4, "d_model": 128, "d_ff": 192}
    whole, factored = (
        shared("none", **sizes).blocks[0].feed_forward,
        shared("none", factor_rank=48, **sizes).blocks[0].feed_forward,
    )
    for name in ("gate", "up", "down"):
        parts = getattr(factored, name)
        assert isinstance(parts, Factored)
        product = parts.second.weight @ parts.first.weight
        assert product.std().item() == pytest.approx(getattr(whole, name).weight.std().item(), rel=0.1)


def test_the_nearest_matrix_of_a_rank():
    torch.manual_seed(0)
    weight = torch.randn(7, 5, dtype=torch.float64)
    values = torch.linalg.svdvals(weight)
    for rank in range(1, 6):
        first, second = low_rank_factors(weight, rank)
        assert (first.shape, second.shape) == ((rank, 5), (7, rank))
        assert float((second @ first - weight).square().sum()) == pytest.approx(
            float(values[rank:].square().sum()), abs=1e-12
        )
    with pytest.raises(UsageError, match="no rank 6; give 1 to 5"):
        low_rank_factors(weight, 6)


@every
def test_a_shared_model_starts_from_the_mean_of_a_trained_ones_layers(pattern):
    trained, model = stir(shared("none")), share_trained(stir(shared("none")), shared(pattern, lora_rank=2))
    who = owners(pattern, 5)
    for layer, block in enumerate(model.layers()):
        together = [other for other in range(5) if who.feed_forward[other] == who.feed_forward[layer]]
        mean = torch.stack([trained.blocks[other].feed_forward.up.weight for other in together]).mean(0)
        up = block.feed_forward.up
        assert torch.allclose(getattr(up, "shared", up).weight, mean, atol=1e-6)
    assert torch.equal(model.embedding.weight, trained.embedding.weight)
    factored = share_trained(trained, shared(pattern, factor_rank=16))
    up = factored.blocks[0].feed_forward.up
    together = [other for other in range(5) if who.feed_forward[other] == who.feed_forward[0]]
    mean = torch.stack([trained.blocks[other].feed_forward.up.weight for other in together]).mean(0)
    assert torch.allclose(up.second.weight @ up.first.weight, mean, atol=1e-5)  # a full rank loses nothing


def test_models_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="5 layers and this one 4"):
        share_trained(shared("none"), shared("all", n_layers=4))
    with pytest.raises(UsageError, match="take equal sizes"):
        share_trained(shared("none", d_ff=24), shared("all"))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"sharing": "half"}, "sharing"),
        ({"sharing": "looped", "n_layers": 2}, "A looped middle needs"),
        ({"lora_rank": 2}, "lora_rank changes matrices that layers share"),
        ({"sharing": "all", "layer_order": (0, 0)}, "leave layer_order out"),
        ({"factor_rank": 0}, "factor_rank"),
    ],
)
def test_settings_that_do_not_fit_are_one_sentence(settings, sentence):
    with pytest.raises(UsageError, match=sentence):
        tiny(**settings)


@pytest.mark.parametrize("settings", [{"sharing": "pairs"}, {"layer_index": True}, {"factor_rank": 4}])
def test_hugging_faces_layouts_refuse_it_in_a_sentence(settings, tmp_path):
    with pytest.raises(KitError, match=f"cannot hold {next(iter(settings))}"):
        export_to_hf(Decoder(tiny(n_layers=4, **settings)), tmp_path)


def drawn(number: int) -> dict:
    """A configuration of its own for each number."""
    generator = torch.Generator().manual_seed(number)

    def one(*choices):
        return choices[int(torch.randint(len(choices), (), generator=generator))]

    pattern = PATTERNS[number % len(PATTERNS)]
    return {
        "sharing": pattern,
        "n_layers": one(3, 4, 6),
        "d_model": one(32, 48),
        "d_ff": one(64, 96),
        "lora_rank": one(None, 2, 5),
        "factor_rank": one(None, 8, 16),
        "layer_index": one(False, True),
    }


@pytest.mark.parametrize("number", range(20))
def test_a_step_takes_the_memory_that_is_predicted(number):
    config = tiny(**drawn(number), vocab_size=200, context_length=32)
    recipe = ("fp32", "fp32+checkpoint", "chunked")[number % 3]
    measured = measure_peak(config, recipe, 8, 32, repeats=0).peak_allocated_mib
    assert predict_peak(config, recipe, 8, 32, semantics="cpu").peak_allocated_mib == pytest.approx(measured, rel=0.005)
