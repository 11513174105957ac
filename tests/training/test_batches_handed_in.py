"""Batches that somebody else makes: weights of targets count in every loss, and a source sees the seed of the run."""

import pytest
import torch

from stlm_kit import train
from stlm_kit.data.batches import IGNORE, Batch
from stlm_kit.training.optimizer import build_optimizer
from stlm_kit.training.recipe import Recipe
from stlm_kit.training.settings import TrainingSettings
from stlm_kit.training.step import Step

RECIPES = ["fp32", "fp32+chunked", "fp32+masked", "fp32+valid", "fp32+chunked+valid"]


def step_of(model, recipe, given):
    """(loss, gradients) of a step in double precision."""
    model = model.double().eval()
    step = Step(model, build_optimizer(model, TrainingSettings()), Recipe.named(recipe), clip=0.0)
    return float(step.compute(given)), [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_weight_counts_as_so_many_targets(recipe, make_model, batches):
    """A row whose targets weigh 3 is a row that stands there three times; one that weighs 0 is not there."""
    batch = batches[0]
    batch.targets[1, 5:] = IGNORE
    weights = torch.tensor([3.0, 1.0, 0.0, 1.0], dtype=torch.float64)[:, None].expand(4, 8).contiguous()
    loss, gradients = step_of(make_model(), recipe, Batch(batch.ids, batch.targets, weights=weights))
    rows = [0, 0, 0, 1, 3]
    expected, theirs = step_of(make_model(), "fp32", Batch(batch.ids[rows], batch.targets[rows]))
    assert loss == pytest.approx(expected, rel=1e-12)
    for mine, other in zip(gradients, theirs, strict=True):
        assert torch.allclose(mine, other, atol=1e-13)


@pytest.mark.parametrize("recipe", RECIPES)
def test_micro_batches_of_unequal_weight_are_one_batch(recipe, make_model, batches):
    whole = batches[1]
    weights = torch.rand(4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    one = Batch(whole.ids, whole.targets, weights=weights)
    parts = [Batch(whole.ids[i:j], whole.targets[i:j], weights=weights[i:j]) for i, j in ((0, 1), (1, 4))]
    (loss, gradients), (other, theirs) = step_of(make_model(), recipe, one), step_of(make_model(), recipe, parts)
    assert loss == pytest.approx(other, rel=1e-12)
    assert all(torch.allclose(a, b, atol=1e-13) for a, b in zip(gradients, theirs, strict=True))


def test_a_source_is_asked_with_the_runs_seed_and_a_number(make_model, batches, settings):
    asked = []

    class Source:
        description = "told"

        def __call__(self, seed, number):
            asked.append((seed, number))
            batch = batches[number]
            return Batch(batch.ids, batch.targets, weights=torch.ones(4, 8), rows=torch.arange(4), groups=batch.ids)

    run = settings.model_copy(update={"seed": 7, "accumulation_steps": 2, "steps": 3})
    train(make_model(), Source(), run, progress=False)
    assert asked == [(7, number) for number in range(6)]


def test_moving_a_batch_moves_every_tensor_and_keeps_its_count(batches):
    batch = batches[0]
    batch = Batch(batch.ids, batch.targets, weights=torch.full((4, 8), 0.5), target_bytes=torch.arange(4))
    assert batch.weight == 16.0 and batch.real_targets == 32
    moved = batch.to("meta")  # where nothing could be counted
    assert {moved.ids.device.type, moved.weights.device.type, moved.target_bytes.device.type} == {"meta"}
    assert moved.documents is None and moved.weight == 16.0
