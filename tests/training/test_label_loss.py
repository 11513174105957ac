"""Losses of softened labels: as torch computes them, chunked and plain."""

import pytest
import torch
import torch.nn.functional as F

from stlm_kit.data.batches import IGNORE, Batch
from stlm_kit.training.label_loss import LabelLoss
from stlm_kit.training.loss import NextTokenLoss
from stlm_kit.training.recipe import Recipe


@pytest.fixture
def case(make_model, batches):
    """(a student in float64, a batch whose last row is padding)."""
    given = batches[0]
    targets = given.targets.clone()
    targets[3:] = IGNORE
    return make_model(seed=1, init_std=0.2).double().eval(), Batch(given.ids, targets)


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize(("smoothing", "temperature"), [(0.2, 1.7), (0.1, 1.0), (0.0, 2.0)])
def test_smoothing_and_temperature_are_torchs(chunked, smoothing, temperature, case):
    student, batch = case
    logits, targets = student(batch.ids).flatten(0, 1), batch.targets.flatten()
    theirs = F.cross_entropy(logits / temperature, targets, reduction="sum", label_smoothing=smoothing)
    value = LabelLoss(smoothing, temperature, chunked)(student, batch, 1)
    assert value.nats.item() == pytest.approx(theirs.item(), abs=1e-11) and value.count == 24
    plain = F.cross_entropy(logits, targets, reduction="sum")
    assert value.log["cross_entropy"].item() == pytest.approx(plain.item(), abs=1e-11)
    found, expected = (torch.autograd.grad(nats, [*student.parameters()]) for nats in (value.nats, theirs))
    for mine, other in zip(found, expected, strict=True):
        assert torch.allclose(mine, other, rtol=0, atol=1e-12)


def test_at_its_defaults_it_is_the_plain_loss(case):
    student, batch = case
    plain = NextTokenLoss(Recipe())(student, batch, 1)
    assert LabelLoss()(student, batch, 1).nats.item() == pytest.approx(plain.nats.item(), abs=1e-11)
