"""What the published steps have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Shapes = dict[str, Any]
Case = tuple[Callable[[], Any], Callable[[Any], Any]]  # build() makes the state, step(state) is what was measured


def dtype_of(shapes: Shapes) -> torch.dtype:
    return getattr(torch, shapes["dtype"])


def run_a_product() -> None:
    """One product forward and backward: what ran earlier in the process has left both threads a cuBLAS workspace."""
    (torch.ones(1, 1, requires_grad=True) @ torch.ones(1, 1)).sum().backward()


def measured(shapes: Shapes, build: Callable[[], tuple[Any, Tensor]], forward: Callable[[Any, Tensor], Tensor]) -> Case:
    """A call measured in one of three modes, `shapes["mode"]`: the forward pass, the backward pass, or both.

    `build()` gives (module, x). Backward keeps its graph; alone, it goes through one graph again and again. With
    `shapes["gradient"]` "kept" the gradient of the output was drawn beforehand, else it is drawn in each call.
    """
    mode, kept = shapes.get("mode", "full"), shapes.get("gradient") == "kept"

    def build_all():
        module, x = build()
        state = {"module": module, "x": x}
        if mode == "backward" or kept:
            state["gradient"] = torch.randn_like(x)
        x.requires_grad_()
        if mode == "backward":
            state["y"] = forward(module, x)
        elif mode == "forward":
            run_a_product()  # the source measures "full" first
        return state

    def step(state):
        y = state["y"] if mode == "backward" else forward(state["module"], state["x"])
        if mode != "forward":
            y.backward(state["gradient"] if "gradient" in state else torch.randn_like(y), retain_graph=True)

    return build_all, step
