"""Training loops as people write them: each runs on fake tensors as it would on real ones."""

import copy

import pytest
import torch
from torch import nn

from stlm_kit.memory import measure_step, predict_step

ROWS, WIDTH = 512, 256  # 0.25 MiB a weight


def layers(n=4):
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(n)))


def trained(make_optimizer=torch.optim.SGD, **options):
    def build():
        model = layers()
        return {"model": model, "optimizer": make_optimizer(model.parameters(), lr=0.1, **options)}

    return build


def loss_of(state):
    return state["model"](torch.zeros(ROWS, WIDTH)).square().mean()


def plain(state):
    state["optimizer"].zero_grad()
    loss_of(state).backward()
    state["optimizer"].step()


def agrees(build, step, span="step", rel=1e-3):
    predicted, measured = (
        predict_step(build, step, semantics="cpu", span=span),
        measure_step(build, step, repeats=0, span=span),
    )
    assert predicted.peak_allocated_mib == pytest.approx(measured.peak_allocated_mib, rel=rel)
    assert predicted.after_forward_mib == pytest.approx(measured.after_forward_mib, rel=rel)


def test_modules_are_moved_and_cast_where_they_are_built():
    def build():
        model = layers().to("cpu").to(torch.bfloat16).half().float()
        return {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}

    moved, made = (predict_step(each, plain) for each in (build, trained()))
    assert moved.by_category == made.by_category and moved.after_backward_mib == made.after_backward_mib
    agrees(build, plain)


def test_copied_layers_are_the_same_as_layers_made():
    def build():
        one = nn.Linear(WIDTH, WIDTH)
        return {"model": nn.Sequential(*(copy.deepcopy(one) for _ in range(4)))}

    def step(state):
        state["model"].zero_grad()
        loss_of(state).backward()

    agrees(build, step)

    def encoder():
        layer = nn.TransformerEncoderLayer(64, 2, 128, batch_first=True, dropout=0.0)
        return nn.TransformerEncoder(layer, 2)

    agrees(encoder, lambda model: model(torch.zeros(8, 32, 64)).sum().backward())


def test_a_copied_weight_is_trained_as_its_original_is():
    def build():
        frozen, trained = nn.Linear(WIDTH, WIDTH).requires_grad_(False), nn.Linear(WIDTH, WIDTH)
        return [copy.deepcopy(frozen), copy.deepcopy(trained)]

    def step(state):
        assert [part.weight.requires_grad for part in state] == [False, True]
        assert all(isinstance(part.weight, nn.Parameter) for part in state)
        state[1](state[0](torch.zeros(ROWS, WIDTH))).sum().backward()

    assert predict_step(build, step).by_category["parameters"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("name", ["AdamW", "Adam", "RMSprop", "Adagrad", "Adadelta", "Adamax", "RAdam", "SGD"])
def test_optimizers_update_all_weights_at_once_on_cuda(name):
    make = getattr(torch.optim, name)
    options = {"momentum": 0.9} if name == "SGD" else {}
    default, loop = (
        predict_step(trained(make, **options, **more), plain, span="step") for more in ({}, {"foreach": False})
    )
    every = predict_step(trained(make, **options, foreach=True), plain, span="step")
    assert default.to_dict() == every.to_dict()
    assert any("foreach" in operation for operation in default.timeline.operations)
    assert not any("foreach" in operation for operation in loop.timeline.operations)
    on_cpu = predict_step(trained(make, **options), plain, semantics="cpu").timeline.operations
    assert not any("foreach" in operation for operation in on_cpu)


def test_a_gradient_scaler_lets_the_optimizer_step():
    def scaled(state):
        scaler = state.setdefault("scaler", torch.amp.GradScaler("cpu"))
        state["optimizer"].zero_grad()
        scaler.scale(loss_of(state)).backward()
        scaler.unscale_(state["optimizer"])
        nn.utils.clip_grad_norm_(state["model"].parameters(), 1.0)
        scaler.step(state["optimizer"])
        scaler.update()
        assert scaler.get_scale() > 0

    build = trained(torch.optim.AdamW)
    with_scaler, without = (predict_step(build, step, span="step").by_category for step in (scaled, plain))
    assert with_scaler["optimizer"] == pytest.approx(without["optimizer"], abs=0.01)
    assert with_scaler["optimizer"] >= 2


def test_clipping_is_done_at_once_on_both():
    def clipped(state):
        loss_of(state).backward()
        nn.utils.clip_grad_norm_(state["model"].parameters(), 1.0)

    for semantics in ("cuda", "cpu"):
        assert "_foreach_norm" in predict_step(trained(), clipped, semantics=semantics).timeline.operations
