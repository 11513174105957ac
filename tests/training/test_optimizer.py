"""AdamW: which parameters are decayed, and that every number is the paper's algorithm."""

import pytest
import torch

from stlm_kit.model.decoder import Decoder
from stlm_kit.presets import preset
from stlm_kit.training.optimizer import build_optimizer
from stlm_kit.training.settings import TrainingSettings


def groups(model, **settings):
    optimizer = build_optimizer(model, TrainingSettings(**settings))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    return {name: decay[id(parameter)] for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", ["laptop-llama", "laptop-gpt2"])
def test_matrices_are_decayed_and_vectors_are_not(name):
    model = Decoder(preset(name, n_layers=1, vocab_size=300))
    for parameter, decay in groups(model, weight_decay=0.3).items():
        is_vector = "norm" in parameter or parameter.endswith("bias")
        assert decay == (0.0 if is_vector else 0.3), parameter


def test_a_tied_matrix_is_updated_once(make_model):
    optimizer = build_optimizer(make_model(), TrainingSettings())
    parameters = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(parameters) == len(set(parameters)) == sum(1 for _ in make_model().parameters())


class ByHand:
    """Algorithm 2 of Loshchilov & Hutter 2019, a parameter at a time."""

    def __init__(self, settings):
        self.settings, self.m, self.v, self.t = settings, {}, {}, 0

    def step(self, weights, gradients):
        s = self.settings
        self.t += 1
        for name, gradient in gradients.items():
            self.m[name] = s.beta_1 * self.m.get(name, 0) + (1 - s.beta_1) * gradient
            self.v[name] = s.beta_2 * self.v.get(name, 0) + (1 - s.beta_2) * gradient**2
            m_hat = self.m[name] / (1 - s.beta_1**self.t)
            v_hat = self.v[name] / (1 - s.beta_2**self.t)
            decay = s.weight_decay if weights[name].ndim >= 2 else 0.0
            step = m_hat / (v_hat.sqrt() + s.epsilon) + decay * weights[name]
            weights[name] = weights[name] - s.learning_rate * step


def test_twenty_steps_are_the_papers_in_float64(make_model, batches):
    settings = TrainingSettings(learning_rate=0.02, weight_decay=0.2, beta_1=0.8, beta_2=0.9, epsilon=1e-6)
    model = make_model().double().set_dropout(0.0)
    optimizer, mine = build_optimizer(model, settings), ByHand(settings)
    weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for i in range(20):
        optimizer.zero_grad()
        model(batches[i].ids).logsumexp(-1).sum().backward()
        gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
        optimizer.step()
        mine.step(weights, gradients)
        for name, parameter in model.named_parameters():
            assert torch.allclose(parameter, weights[name], rtol=0, atol=1e-12), (i, name)


def test_decay_is_decoupled_from_the_gradient():
    """Two weights, one with gradients a million times larger, lose the same share to decay; under L2 they would not."""
    model = torch.nn.Linear(2, 1, bias=False, dtype=torch.float64)
    torch.nn.init.ones_(model.weight)
    optimizer = build_optimizer(model, TrainingSettings(learning_rate=0.01, weight_decay=0.5, beta_1=0.0))
    for step in range(10):
        sign = 1 if step % 2 == 0 else -1  # with beta_1 = 0, equal steps up and down but for the decay between them
        model.weight.grad = sign * torch.tensor([[1e-3, 1e3]], dtype=torch.float64)
        optimizer.step()
    small, large = model.weight[0].tolist()
    assert small == pytest.approx(large, abs=1e-6)
    assert small == pytest.approx((1 - 0.01 * 0.5) ** 10, abs=1e-3)
