"""The losses: what the formula says, summed over real targets only, and starting at ln V."""

import math

import pytest
import torch

from stlm_kit.data.batches import IGNORE
from stlm_kit.training.loss import chunked_loss, plain_loss


@pytest.fixture
def case():
    """(features, head, targets) of 3 rows of 5 positions, 11 tokens, in float64."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 5, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    head = torch.nn.Linear(8, 11, dtype=torch.float64)
    torch.nn.init.normal_(head.weight, generator=generator)
    targets = torch.randint(0, 11, (3, 5), generator=generator)
    return features, head, targets


def by_hand(features, head, targets):
    nats = 0.0
    for vector, target in zip(features.flatten(0, 1), targets.flatten().tolist(), strict=True):
        if target != IGNORE:
            scores = [math.exp(score) for score in head(vector).tolist()]
            nats -= math.log(scores[target] / sum(scores))
    return nats


def test_it_is_the_summed_negative_log_probability(case):
    assert plain_loss(*case).item() == pytest.approx(by_hand(*case), abs=1e-12)


def test_ignored_targets_count_nothing_and_get_no_gradient(case):
    features, head, targets = case
    targets[:, 3:] = IGNORE
    loss = plain_loss(features, head, targets)
    assert loss.item() == pytest.approx(by_hand(features, head, targets), abs=1e-12)
    loss.backward()
    assert torch.count_nonzero(features.grad[:, 3:]) == 0 and torch.count_nonzero(features.grad[:, :3]) > 0


def test_a_batch_without_a_real_target_is_a_plain_zero(case):
    features, head, targets = case
    assert plain_loss(features, head, torch.full_like(targets, IGNORE)).item() == 0.0


def test_parts_add_up_to_the_whole(case):
    features, head, targets = case
    parts = sum(plain_loss(features[i : i + 1], head, targets[i : i + 1]) for i in range(3))
    assert parts.item() == pytest.approx(plain_loss(features, head, targets).item(), abs=1e-12)


def test_the_softmax_is_computed_in_at_least_float32(case):
    features, head, targets = case
    assert plain_loss(features, head, targets).dtype == torch.float64
    coarse = plain_loss(features.bfloat16(), head.bfloat16(), targets)
    assert coarse.dtype == torch.float32
    assert torch.isfinite(coarse)


def test_an_untrained_decoder_starts_at_ln_v(make_model, batches):
    model, batch = make_model().eval(), batches[0]
    loss = plain_loss(model.features(batch.ids), model.head, batch.targets) / batch.real_targets
    assert loss.item() == pytest.approx(math.log(model.config.vocab_size), rel=0.01)


def gradients(loss, features, head):
    return torch.autograd.grad(loss, [features, *head.parameters()])


@pytest.mark.parametrize("rows", [1, 4, 100])
@pytest.mark.parametrize("bias", [True, False])
def test_the_chunked_loss_is_the_plain_one(case, rows, bias):
    features, head, targets = case
    targets[:, 3:] = IGNORE
    head.bias = head.bias if bias else None
    plain, chunked = plain_loss(*case), chunked_loss(features, head, targets, rows=rows)
    assert chunked.item() == pytest.approx(plain.item(), abs=1e-12)
    for mine, theirs in zip(gradients(3 * chunked, features, head), gradients(3 * plain, features, head), strict=True):
        assert torch.allclose(mine, theirs, rtol=0, atol=1e-12)


def test_the_chunked_loss_in_bf16_rounds_as_the_plain_one_does(case):
    features, head, targets = case[0].detach().float().requires_grad_(), case[1].float(), case[2]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain, chunked = plain_loss(features, head, targets), chunked_loss(features, head, targets, rows=4)
    assert chunked.item() == pytest.approx(plain.item(), rel=2**-7)
    for mine, theirs in zip(gradients(chunked, features, head), gradients(plain, features, head), strict=True):
        assert torch.allclose(mine, theirs, rtol=2**-6, atol=2**-6 * theirs.abs().max().item())
