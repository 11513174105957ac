"""Every place where this package reaches into torch or torchao and changes something, one context manager each.

Each says what is changed and why no public interface does instead; after an upgrade the tests of memory prediction tell
whether they still hold. Checked so far:

    torch 2.13, torchao 0.18    by the tests, on CPUs
    torch 2.11                  predictions beside measured steps of an H200; no rms_norm in autocast's list,
                                1 MiB of cuBLASLt in each thread
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorConverter, FakeTensorMode
from torch.utils import _foreach_utils

from stlm_kit.memory.refusals import refuse_lbfgs


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Tensors are fake ones, and modules of them can be moved, cast and copied.

    `FakeTensorMode` with two changes. `FakeTensorConverter.set_tensor_memo` does nothing: its memo would hold a weak
    reference to each weight, and `Module.to` refuses to swap a weight that has one. `FakeTensor.__deepcopy__` clones;
    Tensor's own copies the attributes as well, the mode among them, and operations between two modes make new tensors.
    """
    with (
        mock.patch.object(FakeTensorConverter, "set_tensor_memo", lambda *args: None),
        mock.patch.object(FakeTensor, "__deepcopy__", _cloned, create=True),
        FakeTensorMode(allow_non_fake_inputs=True),
    ):
        yield


def _cloned(tensor: Tensor, memo: dict[int, object]) -> Tensor:
    if id(tensor) not in memo:
        with torch.no_grad():
            copy = tensor.detach().clone()
        if isinstance(tensor, nn.Parameter):
            copy = nn.Parameter(copy, tensor.requires_grad)
        memo[id(tensor)] = copy.requires_grad_(tensor.requires_grad)
        copy.grad = None if tensor.grad is None else _cloned(tensor.grad, memo)
    return memo[id(tensor)]


@contextmanager
def foreach_by_default(cuda: bool) -> Iterator[None]:
    """Optimizers and gradient clipping that are not told otherwise update all tensors at once.

    On CUDA that is their default. They ask for the tensors' device and type, so that
    `_get_foreach_kernels_supported_devices` names the CPU as well here, and both lists of types name fake tensors.
    `cuda=False`: as on the CPU, clipping alone.
    """
    optimizers = sys.modules["torch.optim.optimizer"]  # torch.optim hides it
    with mock.patch.object(_foreach_utils, "_foreach_supported_types", [Tensor, FakeTensor]):
        if not cuda:
            yield
            return
        with (
            mock.patch.object(optimizers, "_foreach_supported_types", [Tensor, nn.Parameter, FakeTensor]),
            mock.patch.object(optimizers, "_get_foreach_kernels_supported_devices", lambda: ["cuda", "cpu"]),
        ):
            yield


@contextmanager
def uncompiled() -> Iterator[None]:
    """What is or was compiled runs as it is written.

    Replaces `torch.compile`, which refuses to run under a dispatch mode (fullgraph=True) or falls back with a warning.
    For functions compiled before, dynamo's stance does, if dynamo has been imported at all: importing it takes seconds.
    """

    def compile(model: Callable | None = None, **options):
        return (lambda function: function) if model is None else model

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(torch, "compile", compile))
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


@contextmanager
def without_reports_of_fake_tensors() -> Iterator[None]:
    """An operation that fails on fake tensors raises, and that is all: torch would log its traceback besides."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    with mock.patch.object(logger, "disabled", True):
        yield


@contextmanager
def lbfgs_refused() -> Iterator[None]:
    """`torch.optim.LBFGS.step` raises UsageError."""
    with mock.patch.object(torch.optim.LBFGS, "step", refuse_lbfgs):
        yield


@contextmanager
def in_each_backward(context: Callable[[], AbstractContextManager]) -> Iterator[None]:
    """Each call of autograd's engine runs within a fresh `context()`; one from within another is part of that.

    Replaces `torch.autograd._engine_run_backward`, through which `Tensor.backward` and `torch.autograd.backward` go.
    torch has hooks for a backward pass's nodes and for its end, but none that encloses the whole of it.
    """
    run, inside = torch.autograd._engine_run_backward, False

    def run_backward(*args, **kwargs):
        nonlocal inside
        if inside:
            return run(*args, **kwargs)
        inside = True
        try:
            with context():
                return run(*args, **kwargs)
        finally:
            inside = False

    with mock.patch.object(torch.autograd, "_engine_run_backward", run_backward):
        yield


@contextmanager
def generator_state_without_values() -> Iterator[None]:
    """A random generator's state is a tensor of its size, and setting it does nothing.

    Replaces `torch.get_rng_state` and `torch.set_rng_state`, which activation checkpointing calls. On the CPU the state
    is a tensor of 5 KB that a checkpointed block keeps, so it has to be seen; the real functions refuse fake tensors.
    """
    n_bytes = torch.get_rng_state().numel()
    with (
        mock.patch.object(torch, "get_rng_state", lambda: torch.empty(n_bytes, dtype=torch.uint8)),
        mock.patch.object(torch, "set_rng_state", lambda state: None),
    ):
        yield


@contextmanager
def scaler_that_always_updates() -> Iterator[None]:
    """fp16's gradient scaler takes no gradient for infinite.

    Replaces `torch.amp.GradScaler._maybe_opt_step`, which reads from the gradients whether one overflowed and passes
    over the update if so. Fake gradients hold no numbers to read.
    """

    def update(scaler, optimizer, state, *args, **kwargs):
        return optimizer.step(*args, **kwargs)

    with mock.patch.object(torch.amp.GradScaler, "_maybe_opt_step", update):
        yield


@contextmanager
def eight_bit_update_without_temporaries() -> Iterator[None]:
    """torchao's 8-bit AdamW allocates nothing while it updates a weight.

    Replaces `torchao.optim.adam.single_param_adam`, the update of one weight. On CUDA torchao compiles it into one
    kernel that needs no memory besides; traced as written it would allocate each intermediate result.
    """
    from stlm_kit.training.adamw8bit import adam

    with mock.patch.object(adam, "single_param_adam", lambda *args, **kwargs: None):
        yield


@contextmanager
def quantization_tables_made_anew() -> Iterator[None]:
    """What torchao computes once in a process is not kept from a trace on fake tensors.

    Clears, at the end, the caches of `get_qmap_signed` and `get_qmap_unsigned` in torchao's optimizers: the values of
    8-bit and 4-bit codes. Computed on fake tensors they are no real values, and the next training in this process would
    quantize its moments by them.
    """
    try:
        yield
    finally:
        for name in ("subclass_8bit", "subclass_4bit"):
            if module := sys.modules.get(f"torchao.optim.{name}"):
                module.get_qmap_signed.cache_clear()
                module.get_qmap_unsigned.cache_clear()
