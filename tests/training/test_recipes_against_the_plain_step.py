"""Every recipe against the plain fp32 step: its loss, every gradient, and the update of every weight."""

import itertools

import pytest
import torch

from stlm_kit import UsageError
from stlm_kit.config import DecoderConfig
from stlm_kit.data.batches import IGNORE, Batch
from stlm_kit.model.decoder import Decoder
from stlm_kit.training import activation_checkpointing
from stlm_kit.training.activation_checkpointing import checkpointed
from stlm_kit.training.loss import LossValue
from stlm_kit.training.optimizer import build_optimizer
from stlm_kit.training.recipe import Recipe
from stlm_kit.training.settings import TrainingSettings
from stlm_kit.training.step import Step

SHAPES = {
    "gpt2": DecoderConfig(
        vocab_size=97, context_length=24, n_layers=2, d_model=32, n_heads=4, d_ff=64, norm="layernorm",
        positions="sinusoidal", feed_forward="relu", bias=True, tied_head=False, head_bias=True, dropout=0.1,
    ),
    "llama": DecoderConfig(
        vocab_size=97, context_length=24, n_layers=2, d_model=32, n_heads=4, n_kv_heads=2, d_ff=64, norm="rmsnorm",
        positions="rotary", feed_forward="swiglu", bias=False, tied_head=True, dropout=0.1, window=7,
    ),
}  # fmt: skip


@pytest.fixture(params=SHAPES)
def shape(request):
    return SHAPES[request.param]


@pytest.fixture
def padded():
    """Three rows of 23 positions, of which 23, 9 and 1 have a real target."""
    rows = torch.randint(0, 97, (3, 24), generator=torch.Generator().manual_seed(1))
    inputs, targets = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
    for row, n_real in enumerate((23, 9, 1)):
        targets[row, n_real:] = IGNORE
    return Batch(inputs, targets)


def steps_of(name, shape, batch, dtype=torch.float64, n_steps=1, clip=1.0):
    """Train a fresh model; gives (losses, gradients before clipping of the last step, weights)."""
    torch.manual_seed(0)
    model = Decoder(shape).to(dtype).train()
    recipe = Recipe.named(name)
    # A mild AdamW: with the usual epsilon its first step is a sign, and a sign flips on a gradient of nearly zero.
    settings = TrainingSettings(learning_rate=1e-2, epsilon=1e-3)
    step = Step(model, build_optimizer(model, settings, recipe), recipe, clip=clip)
    losses, gradients = [], {}
    for number in range(n_steps):
        torch.manual_seed(number)  # the same dropout
        losses.append(step.compute(batch))
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        step.update()
    return torch.stack(losses), gradients, dict(model.named_parameters())


def worst(found, expected):
    assert found.keys() == expected.keys()
    return max((found[name] - expected[name]).abs().max().item() for name in expected)


def distance(found, expected):
    """The relative distance of two sets of tensors, all taken as one vector."""
    apart = sum((found[name].double() - expected[name].double()).square().sum() for name in expected)
    return (apart / sum(expected[name].double().square().sum() for name in expected)).sqrt().item()


CHECKPOINTS, LOSSES = ["", "checkpoint", "selective"], ["", "chunked", "masked", "valid", "chunked+valid"]
EXACT = ["+".join(filter(None, ("sdpa", *parts))) for parts in itertools.product(CHECKPOINTS, LOSSES)]


@pytest.mark.parametrize("name", [*EXACT[1:], "foreach", "kept", "study", "study+selective", "kept+foreach+checkpoint"])
def test_an_exact_recipe_is_the_plain_step(name, shape, padded):
    assert Recipe.named(name).exactness == "exact"
    losses, gradients, weights = steps_of("fp32", shape, padded, n_steps=2)
    mine, my_gradients, my_weights = steps_of(name, shape, padded, n_steps=2)
    assert (mine - losses).abs().max() < 1e-12
    assert worst(my_gradients, gradients) < 1e-12
    assert worst(my_weights, weights) < 1e-12


@pytest.mark.parametrize(
    "name",
    ["eager", "eager+checkpoint", "eager+study", "eager+selective+chunked+valid", "tiled", "eager+tiled+chunked+valid"],
)
def test_so_is_what_draws_other_dropout_where_nothing_is_dropped(name, shape, padded):
    """sdpa draws its dropout inside the kernel, tiles one after the other: masks differ, the mathematics does not."""
    shape = shape.model_copy(update={"dropout": 0.0})
    losses, gradients, weights = steps_of("fp32", shape, padded, n_steps=2)
    mine, my_gradients, my_weights = steps_of(name, shape, padded, n_steps=2)
    assert (mine - losses).abs().max() < 1e-12
    assert max(worst(my_gradients, gradients), worst(my_weights, weights)) < 1e-12


def test_tiles_keep_rows_and_their_documents_together(shape):
    shape = shape.model_copy(update={"dropout": 0.0})
    torch.manual_seed(0)
    model, ids = Decoder(shape).double(), torch.arange(5 * 24).view(5, 24) % 97
    documents = torch.arange(5 * 24).view(5, 24) // 7
    with checkpointed(model.blocks, "tiled"):
        tiled = model.features(ids, documents)
    assert (tiled - model.features(ids, documents)).abs().max() < 1e-12
    assert (tiled - model.features(ids)).abs().max() > 1e-3


def test_a_tile_is_computed_again_with_the_masks_it_had(shape, padded, monkeypatch):
    losses, gradients, weights = steps_of("tiled", shape, padded, n_steps=2)
    monkeypatch.setattr(activation_checkpointing, "checkpoint", lambda forward, *of_tile, **_: forward(*of_tile))
    mine, my_gradients, my_weights = steps_of("tiled", shape, padded, n_steps=2)
    assert (mine - losses).abs().max() == 0
    assert max(worst(my_gradients, gradients), worst(my_weights, weights)) < 1e-12


@pytest.mark.parametrize("extra", ["", "+checkpoint", "+selective+chunked"])
def test_an_update_inside_backward_is_the_plain_one_without_the_clip(extra, shape, padded):
    name = "in-backward" + extra
    losses, _, weights = steps_of("fp32", shape, padded, n_steps=3, clip=0.0)
    mine, gradients, my_weights = steps_of(name, shape, padded, n_steps=3)
    assert (mine - losses).abs().max() < 1e-12 and worst(my_weights, weights) < 1e-12
    assert not gradients  # each was dropped as soon as it was used
    assert Recipe.named(name).exactness == "altered"
    _, _, clipped = steps_of("fp32", shape, padded, n_steps=3, clip=1e-2)
    assert worst(clipped, weights) > 1e-6  # so leaving the clip out does alter what a clipped run computes


@pytest.mark.parametrize("name", ["bf16", "bf16+eager+checkpoint", "bf16+chunked", "bf16+study", "fp16"])
def test_a_coarse_precision_stays_within_its_bound(name, shape, padded):
    recipe = Recipe.named(name)
    shape = shape.model_copy(update={"dropout": 0.0})
    losses, gradients, weights = steps_of("fp32", shape, padded, torch.float32)
    mine, my_gradients, my_weights = steps_of(name, shape, padded, torch.float32)
    assert 0 < (mine - losses).abs().max() / losses.max() <= recipe.bound
    scale = torch.amp.GradScaler("cpu").get_scale() if recipe.precision == "fp16" else 1.0  # the loss was multiplied
    assert distance({name: grad / scale for name, grad in my_gradients.items()}, gradients) <= recipe.bound
    assert distance(my_weights, weights) <= recipe.bound


def test_tf32_asks_cuda_for_it_and_gives_the_setting_back(padded, monkeypatch):
    seen = []
    monkeypatch.setattr(
        Step,
        "forward",
        lambda *_: LossValue(seen.append(matmul.fp32_precision) or torch.ones((), requires_grad=True), 1),
    )
    matmul, model = torch.backends.cuda.matmul, Decoder(SHAPES["llama"])
    before = matmul.fp32_precision
    for name in ("tf32", "fp32"):
        Step(model, build_optimizer(model, TrainingSettings()), Recipe.named(name)).compute(padded)
    assert seen == ["tf32", "ieee"] and matmul.fp32_precision == before


@pytest.mark.parametrize("name", ["8bit", "8bit+in-backward"])
def test_moments_in_eight_bits_stay_within_their_bound_over_twenty_steps(name, shape, padded):
    wide = shape.model_copy(update={"d_model": 128, "d_ff": 256, "vocab_size": 512})  # below 4,096 numbers stay fp32
    torch.manual_seed(0)
    start = dict(Decoder(wide).named_parameters())
    gone = {}
    for each in ("fp32", name):
        _, _, weights = steps_of(each, wide, padded, torch.float32, n_steps=20, clip=0.0)
        gone[each] = {key: (weights[key] - start[key]).detach() for key in start}
    assert 0 < distance(gone[name], gone["fp32"]) <= Recipe.named(name).bound


def test_micro_batches_cannot_be_updated_inside_backward(shape, padded):
    model = Decoder(shape)
    recipe = Recipe.named("in-backward")
    step = Step(model, build_optimizer(model, TrainingSettings(), recipe), recipe)
    with pytest.raises(UsageError, match="accumulation_steps"):
        step([padded, padded])
