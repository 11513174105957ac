"""Divergences of a student's distribution q from a teacher's p, from log-probabilities, in nats a position.

Each function takes (log p, log q), two tensors [positions, outcomes], and returns [positions]. The outcomes are the
tokens of the vocabulary, or coarser ones whose probabilities add up to 1, too. The functions are plain expressions of
autograd. `Divergence.by_log_q` is the same derivative written out, for losses that have no graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from stlm_kit.errors import UsageError, near

LogProbs = Float[Tensor, "positions outcomes"]
Nats = Float[Tensor, " positions"]


def forward_kl(log_p: LogProbs, log_q: LogProbs) -> Nats:
    """KL(p || q) = sum p (log p - log q).

    It is the cross-entropy with soft targets (Hinton et al. 2015, section 2) minus the teacher's entropy. Both have the
    same gradient. This one is 0 where the student has learned p.
    """
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def reverse_kl(log_p: LogProbs, log_q: LogProbs) -> Nats:
    """KL(q || p) = sum q (log q - log p), as in MiniLLM (Gu et al. 2024, section 2.1).

    It is large where the student gives probability to tokens that the teacher excludes.
    """
    return (log_q.exp() * (log_q - log_p)).sum(-1)


def jensen_shannon(log_p: LogProbs, log_q: LogProbs, beta: float = 0.5) -> Nats:
    """beta KL(p || m) + (1 - beta) KL(q || m) with the mixture m = beta p + (1 - beta) q.

    This is the generalized Jensen-Shannon divergence of Agarwal et al. 2024 (GKD), section 2. At beta = 0.5 it is
    symmetric and at most ln 2.
    """
    log_m = _log_mixture(log_p, log_q, beta)
    return beta * forward_kl(log_p, log_m) + (1 - beta) * forward_kl(log_q, log_m)


def _log_mixture(log_p: LogProbs, log_q: LogProbs, beta: float) -> LogProbs:
    return torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))


@dataclass(frozen=True)
class Divergence:
    """A divergence by name.

    nats: `nats(log_p, log_q)`, connected to the autograd graph. by_log_q: `by_log_q(log_p, log_q)`, the derivative of
    nats by each log q, up to a multiple of q. Such a multiple has no effect, because the gradient by the logits is
    g - q sum(g).
    """

    name: str
    nats: Callable[[LogProbs, LogProbs], Nats]
    by_log_q: Callable[[LogProbs, LogProbs], LogProbs]


def divergence_named(name: str, jsd_beta: float = 0.5) -> Divergence:
    """The divergence "forward_kl", "reverse_kl" or "jensen_shannon". `jsd_beta` is the teacher's share of the mixture.

    UsageError for another name, and for a share that is not between 0 and 1.
    """
    if isinstance(jsd_beta, bool) or not isinstance(jsd_beta, int | float) or not 0 < jsd_beta < 1:
        raise UsageError(
            f"jsd_beta = {jsd_beta!r} will not do; give the teacher's share of the mixture, more than 0, less than 1."
        )
    known = {
        "forward_kl": Divergence("forward_kl", forward_kl, lambda log_p, log_q: log_p.exp().neg_()),
        "reverse_kl": Divergence("reverse_kl", reverse_kl, lambda log_p, log_q: log_q.exp().mul_(log_q - log_p)),
        "jensen_shannon": Divergence(
            "jensen_shannon",
            partial(jensen_shannon, beta=jsd_beta),
            lambda log_p, log_q: log_q.exp().mul_(log_q - _log_mixture(log_p, log_q, jsd_beta)).mul_(1 - jsd_beta),
        ),
    }
    if name not in known:
        raise UsageError(f"There is no divergence {name!r}; known: {', '.join(known)}.{near(str(name), known)}")
    return known[name]
