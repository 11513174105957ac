"""Every place where this package changes something inside torch or torchao, one context manager each.

Each says what is changed and why no public interface is enough. After an upgrade, the tests of memory prediction show
whether the changes still work. Checked so far:

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
    """Within this context new tensors are fake, and modules of fake tensors can be moved, cast and copied.

    This is `FakeTensorMode` with two changes. `FakeTensorConverter.set_tensor_memo` does nothing: its memo would hold a
    weak reference to each weight, and `Module.to` refuses to swap a weight that has one. `FakeTensor.__deepcopy__`
    clones: Tensor's own copies the attributes as well, with the mode, and operations between two modes create new
    tensors.
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
    """Optimizers and gradient clipping update all tensors at once, unless they are told otherwise.

    That is their default on CUDA. They check the tensors' device and type. So here
    `_get_foreach_kernels_supported_devices` also names the CPU, and both lists of types name fake tensors.
    `cuda=False`: as on the CPU, where only clipping does so.
    """
    optimizers = sys.modules["torch.optim.optimizer"]  # torch.optim hides this module
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
    """Compiled functions run uncompiled.

    Replaces `torch.compile`, which refuses to run under a dispatch mode (fullgraph=True) or falls back with a warning.
    Functions that were compiled earlier are switched by dynamo's stance, if dynamo is imported; importing it takes
    seconds.
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
    """An operation that fails on fake tensors only raises. Otherwise torch would also log its traceback."""
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
    """Each call of autograd's engine runs within a new `context()`. A nested call belongs to the outer one.

    Replaces `torch.autograd._engine_run_backward`, which `Tensor.backward` and `torch.autograd.backward` call. torch
    has hooks for the nodes of a backward pass and for its end, but none around the whole pass.
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
    """A random generator's state is a tensor of the right size, and setting it does nothing.

    Replaces `torch.get_rng_state` and `torch.set_rng_state`, which activation checkpointing calls. On the CPU the state
    is a tensor of 5 KB that a checkpointed block saves, so it must be counted. The real functions refuse fake tensors.
    """
    n_bytes = torch.get_rng_state().numel()
    with (
        mock.patch.object(torch, "get_rng_state", lambda: torch.empty(n_bytes, dtype=torch.uint8)),
        mock.patch.object(torch, "set_rng_state", lambda state: None),
    ):
        yield


@contextmanager
def scaler_that_always_updates() -> Iterator[None]:
    """fp16's gradient scaler treats no gradient as infinite.

    Replaces `torch.amp.GradScaler._maybe_opt_step`, which checks the gradients for overflow and skips the update if
    there is one. Fake gradients hold no numbers to check.
    """

    def update(scaler, optimizer, state, *args, **kwargs):
        return optimizer.step(*args, **kwargs)

    with mock.patch.object(torch.amp.GradScaler, "_maybe_opt_step", update):
        yield


@contextmanager
def eight_bit_update_without_temporaries() -> Iterator[None]:
    """torchao's 8-bit AdamW allocates nothing while it updates a weight.

    Replaces `torchao.optim.adam.single_param_adam`, the update of one weight. On CUDA torchao compiles it into one
    kernel without extra memory; a trace of its source would allocate each intermediate result.
    """
    from stlm_kit.training.adamw8bit import adam

    with mock.patch.object(adam, "single_param_adam", lambda *args, **kwargs: None):
        yield


@contextmanager
def quantization_tables_made_anew() -> Iterator[None]:
    """Values that torchao computes once in a process are not kept from a trace on fake tensors.

    At the end this clears the caches of `get_qmap_signed` and `get_qmap_unsigned` in torchao's optimizers: the values
    of 8-bit and 4-bit codes. From a trace they would be fake, and the next training in this process would quantize its
    moments with them.
    """
    try:
        yield
    finally:
        for name in ("subclass_8bit", "subclass_4bit"):
            if module := sys.modules.get(f"torchao.optim.{name}"):
                module.get_qmap_signed.cache_clear()
                module.get_qmap_unsigned.cache_clear()
