"""Plain values: what a student's function returns, taken apart before a test compares it.

A value can lie: an object whose == is always true, a tensor subclass that answers comparisons itself. So a returned
value has exactly the type that the exercise's signature states, with plain numbers inside, or the test fails with a
sentence. Right answers of a natural kind are turned into it: a list where a tuple is stated and the other way round, a
namedtuple, a number of numpy's or a tensor of one element where a number is, tensors stacked where a tuple of them is.
What is used for that was bound when this module was loaded, before any of the student's code ran.
"""

from __future__ import annotations

import sys
from builtins import *  # noqa: F403, UP029 - bound here and now, whatever becomes of Python's own names later
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import wraps
from types import GeneratorType
from typing import Any

NONE = type(None)
ITERATORS = (GeneratorType, map, zip, type({}.values()), type({}.keys()))


class Kept:
    """torch's and numpy's own, where they are loaded; an assignment may do without."""

    def __init__(self) -> None:
        torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
        self.tensor = torch.Tensor if torch else ()
        self.plain = (torch.Tensor, torch.nn.Parameter) if torch else ()
        self.item, self.unbind = (torch.Tensor.item, torch.Tensor.unbind) if torch else (None, None)
        self.numel = torch.Tensor.numel if torch else None
        self.scalar, self.scalars = (numpy.generic.item, _below(numpy.generic)) if numpy else (None, set())
        self.array, self.array_item = (numpy.ndarray, numpy.ndarray.item) if numpy else ((), None)


def _below(cls: type) -> set[type]:
    found = set()
    for each in cls.__subclasses__():
        found |= {each} | _below(each)
    return found


class NotPlain(Exception):
    """A returned value that is not what the signature states, with the end of the sentence that says so."""


def guarded(
    function: Callable,
    name: str,
    stated: Any,
    run: Callable[..., Any] | None = None,
    kept: Kept | None = None,
) -> Callable:
    """The function of an exercise, so that it gives plain values of the stated type (see `stated_type`) or none at all.

    run: calls it, `run(function, *arguments, **named)`, where more is to be seen to than the call. kept: torch's own
    methods from before the student's code, by default those of this moment. A call raises AssertionError with a
    sentence for a value of another type. A function that calls itself is guarded on the outside alone.
    """
    kept, depth, take = kept or Kept(), 0, _take

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal depth
        if depth:
            return function(*arguments, **named)
        depth += 1
        try:
            value = run(function, *arguments, **named) if run else function(*arguments, **named)
        finally:
            depth -= 1
        try:
            return take(value, stated, kept)
        except NotPlain as error:
            raise AssertionError(f"{name} gives {error.args[0]}.") from None

    return call


def _take(value: Any, stated: Any, kept: Kept) -> Any:
    """The value as plain Python and plain tensors. Raises NotPlain."""
    kind, *parts = (stated,) if type(stated) is str else stated
    if kind == "any":
        return _anything(value, kept)
    if kind == "either":
        return _either(value, parts, kept)
    if kind == "none":
        if value is None:
            return None
        raise NotPlain(f"{_called(value)} where its signature states None")
    if kind in ("list", "tuple"):
        items = _items(value, kept, kind)
        if kind == "list":
            return [_take(each, parts[0], kept) for each in items]
        if len(items) != len(parts):
            raise NotPlain(f"{len(items)} things where its signature states {len(parts)}")
        return tuple([_take(each, part, kept) for each, part in zip(items, parts, strict=True)])
    if kind == "str":
        if issubclass_(type(value), str):
            return str.__str__(value)
        raise NotPlain(f"{_called(value)} where its signature states a str")
    if kind == "tensor" and isinstance(value, kept.tensor):
        return _tensor(value, kept)
    return _number(value, kind, kept)


def _either(value: Any, parts: list, kept: Kept) -> Any:
    """The value as the first of several stated types that it fits."""
    if value is None and "none" in parts:
        return None
    *others, last = [part for part in parts if part != "none"]
    for part in others:
        try:
            return _take(value, part, kept)
        except NotPlain:
            continue
    return _take(value, last, kept)


def _items(value: Any, kept: Kept, kind: str) -> list:
    """What a list, a tuple, or something made to be gone through holds."""
    own = type(value)
    if issubclass_(own, list):
        return [*list.__iter__(value)]
    if issubclass_(own, tuple):
        return [*tuple.__iter__(value)]
    if own in ITERATORS:
        return [*value]
    if kind == "tuple" and own in kept.plain:
        return [*kept.unbind(_tensor(value, kept))]
    raise NotPlain(f"{_called(value)} where its signature states a {kind}")


def _tensor(value: Any, kept: Kept) -> Any:
    """A tensor that is one of torch's own, with no attribute of its own that could cover a method."""
    if type(value) not in kept.plain:
        raise NotPlain(f"{_called(value)}, a class of its own, where a plain torch.Tensor is due")
    if object.__getattribute__(value, "__dict__"):
        raise NotPlain("a tensor with attributes of its own, where a plain torch.Tensor is due")
    return value


def _number(value: Any, kind: str, kept: Kept) -> Any:
    """A number as Python's own int, float or bool, whatever it was wrapped in; which of them is the tests' business."""
    own = type(value)
    if own is bool:
        return value
    if issubclass_(own, int):
        return int.__add__(value, 0)
    if issubclass_(own, float):
        return float.__pos__(value)
    if own in kept.scalars:
        return _number(kept.scalar(value), kind, kept)
    if own in (Fraction, Decimal):
        return float.__pos__(float(value))
    if own in kept.plain and kind != "tensor" and kept.numel(_tensor(value, kept)) == 1:
        return kept.item(value)
    if own is kept.array and kind != "tensor" and value.size == 1:
        return kept.array_item(value)
    due = {"tensor": "a torch.Tensor", "int": "an int"}.get(kind, f"a {kind}")
    raise NotPlain(f"{_called(value)} where its signature states {due}")


def _anything(value: Any, kept: Kept) -> Any:
    """A value of no stated type: Python's own kinds, numbers and tensors, as deep as they go."""
    own = type(value)
    if own in (NONE, bool, int, float, complex, str, bytes) or own in kept.plain:
        return _tensor(value, kept) if own in kept.plain else value
    if issubclass_(own, str):
        return str.__str__(value)
    if issubclass_(own, dict):
        return {_anything(key, kept): _anything(each, kept) for key, each in dict.items(value)}
    if issubclass_(own, (set, frozenset)):
        base = set if issubclass_(own, set) else frozenset
        return {_anything(each, kept) for each in base.__iter__(value)}
    if issubclass_(own, tuple):
        return tuple([_anything(each, kept) for each in tuple.__iter__(value)])
    if issubclass_(own, list) or own in ITERATORS:
        return [_anything(each, kept) for each in _items(value, kept, "list")]
    return _number(value, "plain value", kept)


def issubclass_(own: type, of: type | tuple) -> bool:
    """`issubclass` by the order of bases alone, which no metaclass has a say in."""
    bases = type.__dict__["__mro__"].__get__(own)
    return any(each is base for each in bases for base in (of if type(of) is tuple else (of,)))


def _called(value: Any) -> str:
    """What a type is called, in a sentence."""
    if value is None:
        return "None"
    name = type.__dict__["__name__"].__get__(type(value))
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
