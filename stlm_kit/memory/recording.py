"""What a tracker writes down: each block of memory from its birth to its death, in the order of events."""

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
    """One storage: who asked for it, how many bytes it wanted, and what it turned out to be good for.

    `category` may change after the fact: that a tensor is a weight's gradient shows when autograd puts it there.
    """

    n_bytes: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    operation: str
    module: str  # "blocks.0.attention"; in the backward pass the module whose forward pass it undoes; "" outside all
    phase: Phase
    category: str
    where: int  # the operation's number

    def describe(self, n_bytes: int | None = None) -> dict[str, object]:
        """As a row of a report; `n_bytes`: what the allocator gave, where that is known."""
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
    """A list of events, each an allocation and whether it is born (+1) or dies (-1), and where the phases end."""

    events: list[tuple[Allocation, int]] = field(default_factory=list)
    operations: list[tuple[str, str, Phase]] = field(default_factory=list)  # name, module, phase
    operation_of_event: list[int] = field(default_factory=list)
    # Positions in `events`: the last step is events[started:], its passes end at these, its last operation at `ended`.
    # What dies later are the names that the step's function gave: a timeline of operations does not show it.
    started: int = 0
    forward_ended: int = 0
    backward_ended: int = 0
    ended: int = 0
    first_operation: int = 0  # of the last step
    first_after_backward: int = 0

    def born(self, allocation: Allocation) -> None:
        self._happens(allocation, 1)

    def dies(self, allocation: Allocation) -> None:
        self._happens(allocation, -1)

    def _happens(self, allocation: Allocation, sign: int) -> None:
        self.events.append((allocation, sign))
        self.operation_of_event.append(len(self.operations) - 1)

    def step_begins(self) -> None:
        self.started = self.forward_ended = self.backward_ended = self.ended = len(self.events)
        self.first_operation = self.first_after_backward = len(self.operations)

    def allocations(self) -> Iterator[Allocation]:
        return (allocation for allocation, sign in self.events if sign > 0)


def survivors(events: Iterable[tuple[Allocation, int]]) -> list[Allocation]:
    """What is alive after these events, which begin with the recording's first, in the order of birth."""
    alive: dict[Allocation, None] = {}
    for allocation, sign in events:
        if sign > 0:
            alive[allocation] = None
        else:
            del alive[allocation]
    return list(alive)
