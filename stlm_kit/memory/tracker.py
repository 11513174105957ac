"""The tracker: a dispatch mode that sees every operation of a training step and follows each storage until it is freed.

It sees the operations of autograd's backward pass, of recomputation under checkpointing, and of the optimizer, on real
and on fake tensors. It never holds a tensor: weak references report each free.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves

from stlm_kit.memory.kernel_scratch import as_unwatched
from stlm_kit.memory.recording import Allocation, Phase, Recording
from stlm_kit.memory.torch_patches import in_each_backward

Kernel = Callable[..., object]
LAST_FIRST = {torch.ops.aten.native_dropout.default}  # its kernel allocates the mask before the result
INPUTS = "inputs"  # the batch, and operations between modules


class Tracker(TorchDispatchMode):
    """Within this context all allocations are written into `recording`.

    run: `run(func, args, kwargs, in_backward)` computes an operation; the default is `as_unwatched`. scratch:
    `scratch(func, args, out, in_backward)` lists a kernel's allocations that are not outputs, as (name, bytes, kept).
    """

    def __init__(
        self,
        vocab_size: int | None = None,
        run: Callable[[Kernel, tuple, dict, bool], object] = as_unwatched,
        scratch: Callable[[Kernel, tuple, object, bool], Iterable[tuple[str, int, bool]]] | None = None,
    ) -> None:
        super().__init__()
        self.recording = Recording()
        self.vocab_size = vocab_size
        self._run, self._scratch = run, scratch
        self._alive: dict[int, tuple[Allocation, weakref.ref]] = {}
        self._names: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()
        self._modules: list[str] = []  # modules whose forward pass is running, outermost first
        self._module_of_node: dict[int, str] = {}  # {autograd's sequence number: the module that made the node}
        self._outside: list[tuple[int, int]] = []  # forward operations outside all modules: their number, their node's
        self._last_inside = -1
        self._building, self._updating, self._n_backward = True, 0, 0
        self._exit = ExitStack()

    # The context. Hooks report which module runs and when an optimizer runs.

    def __enter__(self):
        keep = self._exit.enter_context
        for handle in (
            hooks.register_module_forward_pre_hook(self._module_begins),
            hooks.register_module_forward_hook(self._module_ends, always_call=True),
            register_optimizer_step_pre_hook(self._update_begins),
            register_optimizer_step_post_hook(self._update_ends),
        ):
            keep(_removing(handle))
        keep(in_each_backward(self._backward_pass))
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._exit.close()
        self._alive.clear()  # what is freed from here on is not recorded

    def built(self, modules: Iterable[nn.Module], optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """Register the modules that were built, to name them and to find their weights, and the optimizers."""
        self._building = False
        for module in modules:
            for name, part in module.named_modules():
                self._names.setdefault(part, name)
            for parameter in module.parameters():
                self.mark(parameter, "parameters")
                if parameter.requires_grad:
                    self._exit.enter_context(
                        _removing(parameter.register_post_accumulate_grad_hook(self._gradient_is_whole))
                    )
        for optimizer in optimizers:
            self._mark_state(optimizer)

    def step_begins(self) -> None:
        """Mark the beginning of a new step. Only the last step's peak is reported."""
        self._n_backward = 0
        self._module_of_node.clear()
        self.recording.step_begins()

    def step_ends(self) -> None:
        """Close the step. Operations after its last backward pass were the update; without one, all were forward."""
        recording = self.recording
        if not self._n_backward:
            recording.forward_ended = recording.backward_ended = recording.ended
            return
        for allocation, sign in recording.events[recording.backward_ended :]:
            if sign > 0 and allocation.phase == "forward":
                allocation.phase = "update"
                if allocation.category in ("activations", "logits and loss"):
                    allocation.category = "workspace"
        for number in range(recording.first_after_backward, len(recording.operations)):
            name, module, phase = recording.operations[number]
            recording.operations[number] = (name, module, "update" if phase == "forward" else phase)

    def mark(self, tensor: Tensor, category: str) -> None:
        """Set the category of a tensor."""
        for part in _plain_tensors([tensor]):
            if found := self._alive.get(part.untyped_storage()._cdata):
                found[0].category = category

    # One operation

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "prim":  # a query of a fake tensor's device
            return func(*args, **(kwargs or {}))
        if any(map(is_traceable_wrapper_subclass, tree_leaves((args, kwargs)))):
            return NotImplemented  # a wrapper tensor (8-bit state) unpacks itself and calls this again
        in_backward = torch._C._current_graph_task_id() != -1
        phase, module = self._phase(in_backward), self._module(in_backward)
        self.recording.operations.append((_name(func), module, phase))
        out = self._run(func, args, kwargs or {}, in_backward)
        results = tree_leaves(out)
        for tensor in _plain_tensors(reversed(results) if func in LAST_FIRST else results):
            self._see(tensor, func, module, phase)
        if self._scratch:
            for name, n_bytes, kept in self._scratch(func, args, out, in_backward):
                self._take(name, n_bytes, kept, module, phase)
        self.recording.ended = len(self.recording.events)
        return out

    def _see(self, tensor: Tensor, func: Kernel, module: str, phase: Phase) -> None:
        storage = tensor.untyped_storage()
        key, n_bytes = storage._cdata, storage.nbytes()
        if key in self._alive or not n_bytes:
            return
        category = self._category(tuple(tensor.shape), module, phase)
        allocation = Allocation(
            n_bytes, tuple(tensor.shape), tensor.dtype, _name(func), module, phase, category, self._now
        )
        self._alive[key] = allocation, weakref.ref(storage, lambda _: self._dies(key))
        self.recording.born(allocation)

    def _dies(self, key: int) -> None:
        if found := self._alive.pop(key, None):
            self.recording.dies(found[0])

    def _take(self, name: str, n_bytes: int, kept: bool, module: str, phase: Phase) -> None:
        allocation = Allocation(n_bytes, (n_bytes,), torch.uint8, name, module, phase, "workspace", self._now)
        self.recording.born(allocation)
        if not kept:
            self.recording.dies(allocation)

    @property
    def _now(self) -> int:
        return len(self.recording.operations) - 1

    # The module of an operation

    @contextmanager
    def _backward_pass(self) -> Iterator[None]:
        """Note the ends of the passes. With several micro-batches, the last one's are kept."""
        recording = self.recording
        self._n_backward += 1
        self._name_inputs()
        recording.forward_ended = len(recording.events)
        try:
            yield
        finally:
            recording.backward_ended = recording.ended = len(recording.events)
            recording.first_after_backward = len(recording.operations)

    def _phase(self, in_backward: bool) -> Phase:
        if self._building:
            return "build"
        return "update" if self._updating else "backward" if in_backward else "forward"

    def _module(self, in_backward: bool) -> str:
        if self._modules:
            module = self._modules[-1]
        elif in_backward and (node := torch._C._current_autograd_node()) is not None:
            module = self._module_of_node.get(node._sequence_nr(), "")
        else:
            module = ""
        if not in_backward:
            node = torch.autograd._get_sequence_nr() - 1  # autograd made it just before this operation
            self._module_of_node[node] = module
            if module:
                self._last_inside = len(self.recording.operations)
            else:
                self._outside.append((len(self.recording.operations), node))
        return module

    def _name_inputs(self) -> None:
        """Operations of a loop before its last module are inputs to a module; those after it are the loss."""
        operations = self.recording.operations
        early = {number: node for number, node in self._outside if number < self._last_inside}
        for number, node in early.items():
            operations[number] = (operations[number][0], INPUTS, operations[number][2])
            if self._module_of_node.get(node) == "":
                self._module_of_node[node] = INPUTS
        for allocation, _ in self.recording.events[self.recording.started :]:
            if allocation.where in early and not allocation.module:
                allocation.module = INPUTS
                if not self._is_logits(allocation.shape):
                    allocation.category = "activations"
        self._outside.clear()

    def _category(self, shape: tuple[int, ...], module: str, phase: Phase) -> str:
        if phase == "build":
            return "parameters"
        if phase == "update":
            return "workspace"
        if not module or self._is_logits(shape):
            return "logits and loss"
        return "activations" if phase == "forward" or self._modules else "workspace"

    def _is_logits(self, shape: tuple[int, ...]) -> bool:
        return bool(self.vocab_size and shape and shape[-1] == self.vocab_size)

    def _module_begins(self, module: nn.Module, inputs) -> None:
        self._modules.append(self._names.get(module) or type(module).__name__)

    def _module_ends(self, module: nn.Module, inputs, output) -> None:
        self._modules.pop()
        self.recording.ended = len(self.recording.events)

    def _gradient_is_whole(self, parameter: nn.Parameter) -> None:
        if parameter.grad is not None:
            self.mark(parameter.grad, "gradients")

    def _update_begins(self, optimizer, args, kwargs) -> None:
        self._updating += 1

    def _update_ends(self, optimizer, args, kwargs) -> None:
        self._updating -= 1
        self.recording.ended = len(self.recording.events)
        self._mark_state(optimizer)

    def _mark_state(self, optimizer: torch.optim.Optimizer) -> None:
        for tensor in tree_leaves(list(optimizer.state.values())):
            if isinstance(tensor, Tensor):
                self.mark(tensor, "optimizer")


def _name(func: Kernel) -> str:
    return func.overloadpacket.__name__ if hasattr(func, "overloadpacket") else str(func)


def _plain_tensors(leaves: Iterable[object]) -> Iterator[Tensor]:
    """The tensors that hold memory themselves. A wrapper tensor (8-bit state) is unpacked."""
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            continue
        if is_traceable_wrapper_subclass(leaf):
            yield from _plain_tensors(getattr(leaf, name) for name in leaf.__tensor_flatten__()[0])
        elif leaf.layout == torch.strided:
            yield leaf


@contextmanager
def _removing(handle) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()
