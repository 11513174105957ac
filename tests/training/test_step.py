"""One step: accumulation is weighted by real targets, clipping is global, bf16 keeps its promise."""

import pytest
import torch

from stlm_kit.data.batches import IGNORE, Batch
from stlm_kit.training.loss import plain_loss
from stlm_kit.training.optimizer import build_optimizer, set_learning_rate
from stlm_kit.training.recipe import Recipe
from stlm_kit.training.settings import TrainingSettings
from stlm_kit.training.step import Step


def make_step(model, recipe="fp32", **options):
    model.set_dropout(0.0)
    return Step(model, build_optimizer(model, TrainingSettings()), Recipe.named(recipe), **options)


def gradients(model):
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@pytest.fixture
def padded():
    """Four rows of 8 positions with 8, 1, 5 and 0 real targets."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(0, 17, (4, 9), generator=generator)
    inputs, targets = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
    for row, n_real in enumerate((8, 1, 5, 0)):
        targets[row, n_real:] = IGNORE
    return Batch(inputs, targets)


def rows_of(batch):
    return [Batch(batch.ids[i : i + 1], batch.targets[i : i + 1]) for i in range(len(batch.ids))]


def test_accumulation_equals_one_big_batch(make_model, padded):
    whole, parts = make_model().double(), make_model().double()
    loss = make_step(whole, clip=0.0)(padded)
    accumulated = make_step(parts, clip=0.0)(rows_of(padded))
    assert accumulated.item() == pytest.approx(loss.item(), abs=1e-12)
    assert (gradients(parts) - gradients(whole)).abs().max() < 1e-12
    for mine, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
        assert (mine - theirs).abs().max() < 1e-9  # Adam divides tiny differences by tiny numbers


def test_a_mean_of_means_would_not(make_model, padded):
    """The mistake that the step avoids is one that these batches show."""
    right, wrong = make_model().double(), make_model().double().set_dropout(0.0)
    make_step(right, clip=0.0)(padded)
    for row in rows_of(padded)[:3]:
        (plain_loss(wrong.features(row.ids), wrong.head, row.targets) / row.real_targets / 3).backward()
    assert (gradients(wrong) - gradients(right)).norm() > 0.1 * gradients(right).norm()


def test_the_loss_is_the_mean_over_real_targets(make_model, padded):
    model = make_model().eval()
    mean = plain_loss(model.features(padded.ids), model.head, padded.targets) / padded.real_targets
    assert make_step(model)(padded).item() == pytest.approx(mean.item(), rel=1e-6)


def test_batches_without_a_real_target_change_nothing_but_the_decay(make_model, padded):
    model = make_model()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    step = make_step(model)
    set_learning_rate(step.optimizer, 0.5)
    assert step(rows_of(padded)[3]).item() == 0.0
    for name, parameter in model.named_parameters():
        kept = 1 - 0.5 * 0.1 if parameter.ndim >= 2 else 1.0
        assert torch.allclose(parameter, before[name] * kept)


def test_clipping_is_global_and_the_norm_is_the_one_before(make_model, batches):
    free, clipped = make_model(), make_model()
    make_step(free, clip=0.0)(batches[0])
    step = make_step(clipped, clip=1e-3)
    step(batches[0])
    norm = gradients(free).norm()
    assert norm > 1e-3
    assert step.gradient_norm.item() == pytest.approx(norm.item(), rel=1e-4)
    assert gradients(clipped).norm().item() == pytest.approx(1e-3, rel=1e-3)
    assert torch.allclose(gradients(clipped) / 1e-3, gradients(free) / norm, atol=1e-4)


def test_a_gradient_below_the_bound_is_left_alone(make_model, batches):
    free, clipped = make_model(), make_model()
    make_step(free, clip=0.0)(batches[0])
    step = make_step(clipped, clip=1e3)
    step(batches[0])
    assert torch.equal(gradients(free), gradients(clipped))
    assert make_step(make_model(), clip=0.0).gradient_norm is None


def test_each_step_starts_from_fresh_gradients(make_model, batches):
    once, twice = make_model(), make_model()
    make_step(once, clip=0.0)(batches[1])
    step = make_step(twice, clip=0.0)
    set_learning_rate(step.optimizer, 0.0)
    step(batches[0])
    step(batches[1])
    assert torch.equal(gradients(once), gradients(twice))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_bf16_stays_within_its_bound(make_model, batches, attention):
    exact = make_step(make_model(), clip=0.0)(batches[0])
    recipe = Recipe.named(f"bf16+{attention}")
    step = make_step(make_model(), recipe.name, clip=0.0)
    loss = step(batches[0])
    assert 0 < abs(loss - exact) <= recipe.bound * exact
    assert all(parameter.dtype == parameter.grad.dtype == torch.float32 for parameter in step.model.parameters())
