"""The state of a kernel before a cell, to run the cell again from there."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, MutableMapping
from typing import Any

OWN = ("In", "Out", "get_ipython", "exit", "quit")  # IPython's, which it changes itself


class Snapshot:
    """Names and their values, the contents of lists, dicts, sets, tensors and modules, and the random states.

    What a cell changes deeper down (a list in a list) stays changed: a cell that is checked must be fit to run twice.
    """

    def __init__(self, names: MutableMapping[str, Any]) -> None:
        self.names = names
        self.values = {name: value for name, value in names.items() if not _is_shells(name)}
        self.undo = [undo for value in self.values.values() if (undo := _undo(value))]
        self.undo += [_random_states()]

    def restore(self) -> None:
        """Put everything back; names that came since are gone."""
        for name in [name for name in self.names if not _is_shells(name) and name not in self.values]:
            del self.names[name]
        self.names.update(self.values)
        for undo in self.undo:
            undo()


def _is_shells(name: str) -> bool:
    return name.startswith("_") or name in OWN


def _undo(value: Any) -> Callable[[], None] | None:
    """What puts a value's contents back, None for one that is not changed in place."""
    import torch

    if isinstance(value, torch.nn.Module):
        state, training = {name: held.clone() for name, held in value.state_dict().items()}, value.training

        def undo() -> None:
            value.load_state_dict(state)
            value.train(training)

        return undo
    if isinstance(value, torch.Tensor) and value.is_leaf and value.is_contiguous():  # no expanded one can be written to
        kept = value.detach().clone()
        return lambda: value.data.copy_(kept)
    if isinstance(value, torch.optim.Optimizer):
        state = copy.deepcopy(value.state_dict())
        return lambda: value.load_state_dict(copy.deepcopy(state))
    if type(value) is list:
        return lambda items=list(value): value.__setitem__(slice(None), items)
    if isinstance(value, (dict, set)):
        return _refill(value, copy.copy(value))
    return None


def _refill(value: dict | set, kept: dict | set) -> Callable[[], None]:
    def undo() -> None:
        value.clear()
        value.update(kept)

    return undo


def _random_states() -> Callable[[], None]:
    import numpy as np
    import torch

    states = torch.get_rng_state(), np.random.get_state(), random.getstate()

    def undo() -> None:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])

    return undo
