"""Known values of fake tensors: no entry counts as infinite or NaN, so `isnan` gives False for every entry.

So a step with such a check continues (`if torch.isnan(loss): raise`, clipping with `error_if_nonfinite=True`).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

aten = torch.ops.aten
Value = bool | int | float

NEVER = {aten.isnan, aten.isinf, aten.isposinf, aten.isneginf}
SAME = {  # every entry of the result is an entry of the argument
    aten.any, aten.all, aten._is_any_true, aten._is_all_true, aten.max, aten.min, aten.amax, aten.amin,
    aten._to_copy, aten.clone, aten.detach, aten.alias, aten.view, aten._unsafe_view, aten.expand, aten.unsqueeze,
    aten.squeeze, aten.select, aten.slice, aten.t, aten.transpose, aten.permute, aten.unbind, aten.split,
}  # fmt: skip
TOGETHER = {aten.cat, aten.stack}
NOT = {aten.logical_not, aten.bitwise_not}
AND = {aten.logical_and, aten.logical_and_, aten.bitwise_and, aten.bitwise_and_, aten.mul, aten.mul_}
OR = {aten.logical_or, aten.logical_or_, aten.bitwise_or, aten.bitwise_or_}
ADD = {aten.add, aten.add_}
COMPARED: dict[object, Callable[[Value, Value], bool]] = {
    aten.gt: operator.gt, aten.ge: operator.ge, aten.lt: operator.lt, aten.le: operator.le, aten.eq: operator.eq,
    aten.ne: operator.ne,
}  # fmt: skip


class KnownValues:
    """Remembers tensors whose entries all have one known value, for as long as the tensors live."""

    def __init__(self) -> None:
        self._known = WeakTensorKeyDictionary()

    def of(self, tensor: Tensor) -> Value | None:
        """The value of all entries, or None where it is not known."""
        return self._known.get(tensor)

    def note(self, func: Callable, args: tuple, out: object) -> None:
        """Record the value of an operation's result, or that a known tensor was overwritten."""
        value = self._result(getattr(func, "overloadpacket", None), args)
        for tensor in out if isinstance(out, list | tuple) else [out]:
            if isinstance(tensor, Tensor):
                if value is not None:
                    self._known[tensor] = value
                elif self._known:
                    self._known.pop(tensor, None)

    def _result(self, packet: object, args: tuple) -> Value | None:
        if packet in NEVER:
            return False
        if packet in COMPARED:
            return self._compared(packet, *args[:2])
        if packet in AND or packet in OR:
            return self._joined(packet in AND, *args[:2])
        if packet in ADD:
            terms = self._both(*args[:2])
            return None if None in terms else sum(terms)
        first = args[0] if args else None
        if packet in TOGETHER:
            values = {self.of(tensor) for tensor in first}
            return values.pop() if len(values) == 1 else None
        value = self.of(first) if isinstance(first, Tensor) else None
        if value is None:
            return None
        if packet in NOT:
            return not value
        if packet in SAME:
            return value
        return 0 if packet in (aten.sum, aten.count_nonzero, aten.cumsum) and not value else None

    def _compared(self, packet: object, first: Tensor, second: object) -> bool | None:
        if first is second:  # a number differs from itself only if it is NaN
            return COMPARED[packet](0, 0) if packet in (aten.eq, aten.ne) else None
        one, other = self._both(first, second)
        if one is None and packet in (aten.eq, aten.ne) and isinstance(other, float) and not math.isfinite(other):
            return packet is aten.ne
        return None if one is None or other is None else COMPARED[packet](one, other)

    def _both(self, *arguments: object) -> list:
        return [self.of(one) if isinstance(one, Tensor) else one for one in arguments]

    def _joined(self, both: bool, first: object, second: object) -> Value | None:
        values = self._both(first, second)
        deciding = [value for value in values if value is not None and bool(value) is not both]
        if deciding:  # one False makes an "and" False, one True an "or" True
            return not both
        return None if None in values else both and all(values)
