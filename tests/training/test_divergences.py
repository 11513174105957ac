"""The divergences: against sums written out by hand in float64, F.kl_div, and autograd's derivatives."""

import math

import pytest
import torch
import torch.nn.functional as F

from stlm_kit import UsageError
from stlm_kit.training.divergences import divergence_named

NAMES = ("forward_kl", "reverse_kl", "jensen_shannon")
every = pytest.mark.parametrize("name", NAMES)


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def by_hand(name, p, q, beta):
    if name == "jensen_shannon":
        m = [beta * a + (1 - beta) * b for a, b in zip(p, q, strict=True)]
        return beta * kl(p, m) + (1 - beta) * kl(q, m)
    return kl(p, q) if name == "forward_kl" else kl(q, p)


def softmax(logits):
    exps = [math.exp(each) for each in logits]
    return [each / sum(exps) for each in exps]


@pytest.fixture
def pair():
    """(log p, log q) of 7 positions and 11 tokens, in float64."""
    generator = torch.Generator().manual_seed(1)
    return tuple((3 * torch.randn(7, 11, generator=generator, dtype=torch.float64)).log_softmax(-1) for _ in range(2))


@every
@pytest.mark.parametrize("beta", [0.5, 0.1])
def test_it_is_the_sum_of_the_formula(name, beta, pair):
    found = divergence_named(name, beta).nats(*pair)
    for nats, p, q in zip(found.tolist(), *(softmax_rows(each) for each in pair), strict=True):
        assert nats == pytest.approx(by_hand(name, p, q, beta), abs=1e-12)


def softmax_rows(logits):
    return [softmax(row) for row in logits.tolist()]


def test_the_kls_are_those_of_torch(pair):
    log_p, log_q = pair
    for name, (first, second) in {"forward_kl": (log_q, log_p), "reverse_kl": (log_p, log_q)}.items():
        theirs = F.kl_div(first, second, reduction="none", log_target=True).sum(-1)  # its arguments are (log q, log p)
        assert torch.allclose(divergence_named(name).nats(log_p, log_q), theirs, rtol=0, atol=1e-13)


def test_what_is_symmetric_and_what_is_not(pair):
    log_p, log_q = pair
    jsd, forward, reverse = (divergence_named(name).nats for name in ("jensen_shannon", "forward_kl", "reverse_kl"))
    assert torch.allclose(jsd(log_p, log_q), jsd(log_q, log_p), rtol=0, atol=1e-13)
    assert jsd(log_p, log_q).max() < math.log(2)
    assert torch.equal(forward(log_p, log_q), reverse(log_q, log_p))
    assert (forward(log_p, log_q) - forward(log_q, log_p)).abs().min() > 1e-3


@every
def test_the_derivative_written_out_is_autograds(name, pair):
    log_p = pair[0]
    logits = (pair[1] + 0.7).requires_grad_()
    divergence = divergence_named(name, 0.3)
    assert torch.autograd.gradcheck(lambda x: divergence.nats(log_p, x.log_softmax(-1)), logits)
    theirs = torch.autograd.grad(divergence.nats(log_p, logits.log_softmax(-1)).sum(), logits)[0]
    g, q = divergence.by_log_q(log_p, pair[1]), pair[1].exp()
    assert torch.allclose(g - q * g.sum(-1, keepdim=True), theirs, rtol=0, atol=1e-13)


@every
def test_it_is_zero_at_the_teachers_own_distribution(name, pair):
    assert divergence_named(name).nats(pair[0], pair[0]).abs().max() < 1e-15


def test_unknown_names_and_shares_are_one_sentence():
    with pytest.raises(UsageError, match=r"no divergence 'forwardkl'; known: forward_kl, .*forward_kl"):
        divergence_named("forwardkl")
    for share in (0, 1, True, "half"):
        with pytest.raises(UsageError, match="jsd_beta"):
            divergence_named("jensen_shannon", share)
