"""A step that asks for values, on tensors that have none: what is taken for granted, and what is refused."""

import logging

import pytest
import torch
from torch import nn

from stlm_kit.errors import UsageError
from stlm_kit.memory import measure_step, predict_step
from stlm_kit.memory.operations import count_operations

WIDTH = 64


def build(make_optimizer=torch.optim.SGD):
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH))
    return {"model": model, "optimizer": make_optimizer(model.parameters(), lr=0.1)}


def loss_of(state):
    return state["model"](torch.zeros(32, WIDTH)).square().mean()


def train(state):
    state["optimizer"].zero_grad()
    loss_of(state).backward()
    state["optimizer"].step()


LOOKS = {
    "isnan": lambda loss, model: torch.isnan(loss),
    "isinf": lambda loss, model: loss.isinf().any().item(),
    "not isfinite": lambda loss, model: not torch.isfinite(loss),
    "unlike itself": lambda loss, model: loss != loss,
    "either": lambda loss, model: torch.logical_or(loss.isnan(), loss.isinf()),
    "in a gradient": lambda loss, model: any(p.grad.isnan().any() for p in model.parameters()),
    "counted": lambda loss, model: sum(p.grad.isnan().sum() for p in model.parameters()).item() > 0,
    "stacked": lambda loss, model: torch.stack([p.grad.isnan().any() for p in model.parameters()]).any(),
    "inverted": lambda loss, model: (~torch.isfinite(loss)).any(),
}


@pytest.mark.parametrize("name", LOOKS)
@pytest.mark.parametrize("semantics", ["cuda", "cpu"])
def test_nothing_is_infinite_or_no_number(name, semantics):
    def step(state):
        loss = loss_of(state)
        loss.backward()
        assert not LOOKS[name](loss, state["model"])
        nn.utils.clip_grad_norm_(state["model"].parameters(), 1.0, error_if_nonfinite=True)
        state["optimizer"].step()

    assert predict_step(build, step, semantics=semantics).after_backward_mib > 0


def test_what_is_written_into_is_not_known_any_more():
    def step(state):
        loss = loss_of(state)
        flags = loss.isnan()
        assert not flags
        flags.fill_(True)
        assert flags
        loss.backward()

    predict_step(build, step)


def test_anomaly_detection_finds_none():
    def step(state):
        with torch.autograd.set_detect_anomaly(True, check_nan=True):
            train(state)

    predict_step(build, step)


def test_numbers_read_back_are_those_that_are_told():
    seen = []

    def step(state):
        loss = loss_of(state)
        loss.backward()
        seen.append((loss.item(), bool(loss < 2), (loss > 0).item(), int(torch.zeros(3, dtype=torch.int64).sum())))

    predict_step(build, step, steps=1)
    assert seen.pop() == (1.0, True, True, 1)
    predict_step(build, step, steps=1, read_back=lambda tensor: 0.25 if tensor.is_floating_point() else None)
    assert seen.pop() == (0.25, True, True, 1)
    predict_step(build, step, steps=1, read_back=lambda tensor: False if tensor.dtype == torch.bool else 7)
    assert seen.pop() == (7.0, False, False, 7)


def test_nadam_is_predicted_once_it_is_told_what_it_reads():
    def made():
        return build(torch.optim.NAdam)

    with pytest.raises(UsageError, match=r"divides by zero.*NAdam.*read_back"):
        predict_step(made, train)
    report = predict_step(made, train, span="step", semantics="cpu", read_back=lambda tensor: 0.5)
    measured = measure_step(made, train, span="step", repeats=0)
    assert report.peak_allocated_mib == pytest.approx(measured.peak_allocated_mib, rel=0.01)


def unique(state):
    torch.unique(torch.zeros(10, dtype=torch.int64))


def to_numpy(state):
    loss_of(state).detach().numpy()


def experts(state):
    """Rows sorted by expert, split by how many each got."""
    x = torch.zeros(32, WIDTH)
    chosen = state["model"](x).argmax(-1)
    counts = nn.functional.one_hot(chosen, WIDTH).sum(0).tolist()
    x[chosen.argsort()].split(counts)


def counted_experts(state):
    torch.bincount(torch.zeros(32, dtype=torch.int64), minlength=4)


def recurrent(kind):
    return lambda state: kind(WIDTH, WIDTH)(torch.zeros(4, 8, WIDTH))[0].sum().backward()


def sparse(state):
    nn.Embedding(100, WIDTH, sparse=True)(torch.zeros(8, dtype=torch.int64)).sum().backward()


def lbfgs(state):
    torch.optim.LBFGS(state["model"].parameters()).step(lambda: loss_of(state))


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (unique, r"What aten\._unique2\.default gives depends on values"),
        (counted_experts, "capacity for each expert"),
        (experts, "taken as 1 .*split.*say with read_back"),
        (to_numpy, "NumPy array"),
        (recurrent(nn.LSTM), r"nn\.LSTM runs in one kernel"),
        (recurrent(nn.GRU), r"nn\.GRU runs in one kernel"),
        (sparse, "sparse=False"),
        (lbfgs, "LBFGS decides by the loss"),
    ],
)
def test_what_cannot_be_predicted_is_refused_in_one_sentence(step, sentence, caplog, capfd):
    with caplog.at_level(logging.DEBUG), pytest.raises(UsageError, match=sentence) as refusal:
        predict_step(build, step)
    said = str(refusal.value)
    assert said.endswith(".") and "\n" not in said
    assert caplog.records == [] and capfd.readouterr().err == ""
    with pytest.raises(UsageError):
        count_operations(build, step)


def test_what_the_step_itself_raises_goes_through():
    def wrong(state):
        state["model"](torch.zeros(32, WIDTH + 1))

    with pytest.raises(RuntimeError, match="same reduction dim"):
        predict_step(build, wrong)
    with pytest.raises(KeyError):
        predict_step(build, lambda state: state["scheduler"])


def test_a_gru_is_predicted_on_the_cpu():
    def made():
        return nn.GRU(WIDTH, WIDTH, batch_first=True)

    def step(gru):
        gru(torch.zeros(8, 32, WIDTH))[0].sum().backward()

    predicted, measured = predict_step(made, step, semantics="cpu"), measure_step(made, step, repeats=0)
    assert predicted.peak_allocated_mib == pytest.approx(measured.peak_allocated_mib, rel=0.01)


@pytest.mark.parametrize("options", [{}, {"fullgraph": True}])
def test_what_is_compiled_is_predicted_as_it_is_written(options):
    def compiled():
        state = build()
        return {**state, "model": torch.compile(state["model"], **options)}

    assert predict_step(compiled, train).by_category == predict_step(build, train).by_category
    before = torch.compile(lambda x: x.relu() * 2, **options)

    def step(state):
        before(state["model"](torch.zeros(32, WIDTH))).sum().backward()

    assert predict_step(build, step).after_backward_mib > 0
