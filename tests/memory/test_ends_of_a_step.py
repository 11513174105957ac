"""Where a step's passes end: what lies there, whatever the loop is like."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from stlm_kit.errors import UsageError
from stlm_kit.memory import measure_step, predict_step

ROWS, WIDTH = 512, 256  # an activation of 0.5 MiB, a weight of 0.25


def build():
    return nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4))


def through(layers, x):
    for layer in layers:
        x = layer(x)
    return x


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_step_that_ends_with_its_backward_pass(reentrant):
    """What its names hold dies after the pass, not in it."""

    def step(layers):
        x = torch.zeros(ROWS, WIDTH, requires_grad=True)
        for layer in layers:
            x = checkpoint(lambda y, layer=layer: layer(torch.relu(layer(y))).relu(), x, use_reentrant=reentrant)
        x.sum().backward()

    predicted, measured = predict_step(build, step, semantics="cpu"), measure_step(build, step, repeats=0)
    for size in ("peak_allocated_mib", "after_forward_mib", "after_backward_mib"):
        assert getattr(predicted, size) == pytest.approx(getattr(measured, size), rel=1e-3), size
    assert predicted.after_backward_mib > 3  # weights, their gradients, and x with its own
    assert predicted.timeline.total()[-1] == pytest.approx(predicted.after_backward_mib)


def test_a_step_without_a_backward_pass_is_all_forward():
    report = predict_step(build, lambda layers: through(layers, torch.zeros(ROWS, WIDTH)), semantics="cpu")
    assert report.after_forward_mib == report.after_backward_mib == report.timeline.total()[-1]
    assert report.after_forward_mib == pytest.approx(4 * 0.25 + 5 * 0.5, abs=0.01)  # the input and four outputs
    assert set(report.timeline.phases) == {"forward"} and report.peak_phase == "forward"


def test_a_step_of_nothing_lies_where_the_one_before_it_ended():
    report = predict_step(lambda: {"x": torch.zeros(512, 512)}, lambda state: None)
    assert report.peak_allocated_mib == report.after_backward_mib == 1
    assert report.timeline.operations == []
    with pytest.raises(UsageError, match="Neither build nor step makes a tensor"):
        predict_step(dict, lambda state: None)


def test_a_timeline_ends_before_the_names_of_the_step_die():
    def step(layers):
        out = through(layers, torch.zeros(ROWS, WIDTH))
        out.sum().backward()
        assert out.shape == (ROWS, WIDTH)

    line = predict_step(build, step, semantics="cpu").timeline
    assert line.total()[-1] == pytest.approx(2 + 0.5, abs=0.02)  # weights and gradients, and `out`
