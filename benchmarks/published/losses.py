"""Losses in plain torch: cross-entropy, the linear layer before it, and divergences between distributions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from published.steps import Case, Shapes, dtype_of, run_a_product


def cross_entropy(shapes: Shapes) -> Case:
    """Mean cross-entropy of logits [tokens, vocab_size] that are themselves the leaf."""

    def build():
        logits = torch.randn(shapes["tokens"], shapes["vocab_size"], requires_grad=True)
        return logits, torch.randint(shapes["vocab_size"], (shapes["tokens"],))

    def step(state):
        logits, targets = state
        F.cross_entropy(logits, targets).backward()

    return build, step


def linear_cross_entropy(shapes: Shapes) -> Case:
    """A head [vocab_size, d_model] and the cross-entropy of its logits; a second, unused head lies on the device."""

    def build():
        size = shapes["d_model"], shapes["vocab_size"]
        heads = [nn.Linear(*size, bias=False, dtype=dtype_of(shapes)) for _ in range(2)]
        features = torch.randn(shapes["tokens"], shapes["d_model"], dtype=dtype_of(shapes), requires_grad=True)
        return heads, features, torch.randint(shapes["vocab_size"], (shapes["tokens"],))

    def step(state):
        heads, features, targets = state
        F.cross_entropy(heads[0](features), targets).backward()  # nobody keeps the logits

    return build, step


def cut_cross_entropy_baseline(shapes: Shapes) -> Case:
    """Forward alone: bf16 logits [tokens, vocab_size], capped by tanh, taken to fp32 for the cross-entropy."""

    def build():
        features = torch.randn(shapes["tokens"], shapes["d_model"], dtype=dtype_of(shapes), requires_grad=True)
        weight = torch.randn(shapes["vocab_size"], shapes["d_model"], dtype=dtype_of(shapes), requires_grad=True)
        run_a_product()  # the source has a warm-up run
        return features, weight, torch.randint(shapes["vocab_size"], (shapes["tokens"],))

    def step(state):
        features, weight, targets = state
        logits = features @ weight.T
        logits = torch.tanh(logits / 30.0) * 30.0
        F.cross_entropy(logits.float(), targets)

    return build, step


def _between_distributions(shapes: Shapes, normalize: tuple[Callable, Callable], loss: Callable) -> Case:
    """`loss(input, target)` of two tensors [tokens, vocab_size]; the input is normalized once, its graph is kept."""

    def build():
        size = shapes["tokens"], shapes["vocab_size"]
        scores = torch.randn(*size, requires_grad=True)
        return normalize[0](scores, dim=-1), normalize[1](torch.randn(*size), dim=-1)

    def step(state):
        loss(*state).backward(retain_graph=True)

    return build, step


def kl_div(shapes: Shapes) -> Case:
    """KL divergence of log-probabilities from probabilities."""
    return _between_distributions(
        shapes, (torch.log_softmax, torch.softmax), lambda q, p: F.kl_div(q, p, reduction="batchmean")
    )


def jsd(shapes: Shapes) -> Case:
    """Jensen-Shannon divergence: the mean of two KL divergences from the mixture, both of log-probabilities."""

    def loss(log_q: Tensor, log_p: Tensor) -> Tensor:
        mixture = 0.5 * (torch.exp(log_q) + torch.exp(log_p))
        log_mixture = torch.log(mixture)
        first, second = (F.kl_div(log_mixture, one, reduction="batchmean", log_target=True) for one in (log_q, log_p))
        return 0.5 * (first + second)

    return _between_distributions(shapes, (torch.log_softmax, torch.log_softmax), loss)


def jsd_by_token(shapes: Shapes) -> Case:
    """The same divergence, its mixture interpolated and each term summed token by token."""

    def loss(log_q: Tensor, log_p: Tensor) -> Tensor:
        mixture = torch.lerp(torch.exp(log_q), torch.exp(log_p), 0.5)
        terms = [
            0.5 * F.kl_div(torch.log(mixture), one, reduction="none", log_target=True).sum(-1) for one in (log_p, log_q)
        ]
        return (sum(terms) / log_q.shape[0]).sum()

    return _between_distributions(shapes, (torch.log_softmax, torch.log_softmax), loss)


def tvd(shapes: Shapes) -> Case:
    """Total variation distance of two distributions, summed and divided by the number of tokens."""

    def loss(q: Tensor, p: Tensor) -> Tensor:
        distances = torch.abs(q - p) / 2.0
        return torch.sum(distances) / q.size(0)

    return _between_distributions(shapes, (torch.softmax, torch.softmax), loss)
