"""Where autograd's backward pass writes in place, and what BLAS copies: single functions beside real CPU steps."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stlm_kit.memory import measure_step, predict_step
from stlm_kit.memory.devices import DEVICES

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (256, 1024)  # 1 MiB in fp32


def positions(x):
    return torch.zeros(x.shape, dtype=torch.int64)


def rows():
    return torch.zeros(300, dtype=torch.int64)


FUNCTIONS = {
    "gather": lambda x: x.gather(1, positions(x)),
    "take_along_dim": lambda x: torch.take_along_dim(x, positions(x), 1),
    "sort": lambda x: x.sort(1)[0],
    "topk": lambda x: x.topk(64, 1)[0],
    "max": lambda x: x.max(1)[0],
    "cummax": lambda x: x.cummax(1)[0],
    "take": lambda x: x.take(positions(x)),
    "index_select": lambda x: x.index_select(0, rows()),
    "index": lambda x: x[rows()],
    "prod": lambda x: x.prod(),
    "prod of rows": lambda x: x.prod(1),
    "prod of columns": lambda x: torch.prod(x, 0, keepdim=True),
    "cumprod": lambda x: x.cumprod(1),
    "matmul": lambda x: x @ torch.zeros(1024, 512),  # the gradient of a sum is one number, expanded
    "linear": lambda x: F.linear(x, torch.zeros(300, 1024), torch.zeros(300)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_and_its_gradient_as_measured(name):
    def step(state):
        state["x"].grad = None
        FUNCTIONS[name](state["x"]).sum().backward()

    def build():
        return {"x": nn.Parameter(torch.rand(SHAPE))}

    predicted = predict_step(build, step, semantics="cpu")
    measured = measure_step(build, step, repeats=0)
    for size in ("peak_allocated_mib", "after_forward_mib", "after_backward_mib"):
        assert getattr(predicted, size) == pytest.approx(getattr(measured, size), rel=3e-3), size


def test_a_backward_of_the_users_own_is_left_as_it_is():
    """It holds what it adds into, so nothing of it may be overwritten."""

    class Kept(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            zeros = gradient.new_zeros(SHAPE)
            added = zeros.scatter_add(1, positions(gradient), gradient)
            assert added is not zeros
            return added + zeros

    report = predict_step(
        lambda: nn.Parameter(torch.rand(SHAPE)), lambda x: Kept.apply(x).sum().backward(), semantics="cpu"
    )
    assert "scatter_add" in report.timeline.operations


def test_group_norm_as_published_for_an_h100():
    """Liger-Kernel's benchmark (all_benchmark_data.csv, group_norm): its backward kernel takes 3.5 MiB unseen."""
    n, channels, groups = 8, 64, 16

    def build():
        layer = nn.GroupNorm(groups, channels)
        return {"layer": layer, "x": nn.Parameter(torch.empty(n, channels, 32))}

    report = predict_step(build, lambda state: state["layer"](state["x"]).sum().backward(), device=DEVICES["h100-80gb"])
    scratch = [row["mib"] for row in report.alive_at_peak if row["operation"].startswith("sums by channel")]
    asked = 4 * (3 * n * channels + 2 * n * groups)
    assert scratch == [pytest.approx(-(-asked // 512) * 512 / 2**20)]
