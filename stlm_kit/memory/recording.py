"""The record that a tracker writes: each allocation and each free, in the order of events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch

CATEGORIES = ("parameters", "gradients", "optimizer", "activations", "logits and loss", "workspace")
Phase = Literal["build", "forward", "backward", "update"]
MIB = 2**20


@dataclass(slots=True, eq=False)
class Allocation:
    """One storage: which operation requested it, how many bytes it needs, and what it is used for.

    `category` may change later: that a tensor is a weight's gradient is known only when autograd assigns it.
    """

    n_bytes: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    operation: str
    # such as "blocks.0.attention"; in the backward pass the module whose forward pass it differentiates; "" outside all
    module: str
    phase: Phase
    category: str
    where: int  # the operation's number

    def describe(self, n_bytes: int | None = None) -> dict[str, object]:
        """The allocation as a row of a report. n_bytes: the size of the allocator's block, where it is known."""
        return {
            "mib": (self.n_bytes if n_bytes is None else n_bytes) / MIB,
            "shape": list(self.shape),
            "dtype": str(self.dtype).removeprefix("torch."),
            "operation": self.operation,
            "module": self.module,
            "phase": self.phase,
            "category": self.category,
        }


@dataclass
class Recording:
    """A list of events, and the ends of the phases. An event is an allocation and its sign: +1 allocated, -1 freed."""

    events: list[tuple[Allocation, int]] = field(default_factory=list)
    operations: list[tuple[str, str, Phase]] = field(default_factory=list)  # name, module, phase
    operation_of_event: list[int] = field(default_factory=list)
    # Positions in `events`: the last step is events[started:], its passes end at these, and its last operation at
    # `ended`. Tensors freed later were held by local names of the step's function, which a timeline of operations does
    # not show.
    started: int = 0
    forward_ended: int = 0
    backward_ended: int = 0
    ended: int = 0
    first_operation: int = 0  # of the last step
    first_after_backward: int = 0

    def born(self, allocation: Allocation) -> None:
        """Record an allocation."""
        self._happens(allocation, 1)

    def dies(self, allocation: Allocation) -> None:
        """Record that an allocation is freed."""
        self._happens(allocation, -1)

    def _happens(self, allocation: Allocation, sign: int) -> None:
        self.events.append((allocation, sign))
        self.operation_of_event.append(len(self.operations) - 1)

    def step_begins(self) -> None:
        """Record that a new step begins here."""
        self.started = self.forward_ended = self.backward_ended = self.ended = len(self.events)
        self.first_operation = self.first_after_backward = len(self.operations)

    def allocations(self) -> Iterator[Allocation]:
        """The allocations in order."""
        return (allocation for allocation, sign in self.events if sign > 0)


def survivors(events: Iterable[tuple[Allocation, int]]) -> list[Allocation]:
    """The allocations that are alive after these events, in order. The events begin with the recording's first."""
    alive: dict[Allocation, None] = {}
    for allocation, sign in events:
        if sign > 0:
            alive[allocation] = None
        else:
            del alive[allocation]
    return list(alive)
