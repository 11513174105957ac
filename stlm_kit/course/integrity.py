"""Inside a submission's kernel: that a test means what it says, whatever the student's code did to names and methods.

`keep` runs after the setup and before any of the student's code; `ready` before each test cell. In between a test sees
Python's, torch's and the setup's names as they were then; the student's function sees them as the student left them.
The exercise's function gives plain values (see `plain_values`). None of this can stop code that takes this very module
apart: it shares one Python with the tests.
"""

from __future__ import annotations

import builtins
import hmac
import sys
from builtins import *  # noqa: F403, UP029 - as they are before the student's code
from collections.abc import Callable
from typing import Any

from stlm_kit.course.plain_values import Kept, guarded

# Whose functions and classes a test may rest on. Anything else can only make it fail.
MODULES = ["builtins", "math", "random", "itertools", "collections", "torch", "torch.functional", "torch._tensor"]
MODULES += ["torch.nn.functional", "torch.nn.init", "torch.linalg", "torch.autograd", "torch.overrides"]
MODULES += ["stlm_kit.course.plain_values"]
CLASSES = [("torch", "Tensor"), ("torch.nn", "Module"), ("torch.nn", "Embedding"), ("torch.nn", "Linear")]
CLASSES += [("random", "Random"), ("collections", "Counter")]
ALWAYS = {"norm", "backward", "eq", "__eq__"}  # what tests call by other names
CHANGING = {"_", "input", "manual_seed"}  # set anew by IPython as cells run, and by torch when it loads its compiler
MISSING = object()


def ready(name: str, stated: Any, reads: set[str], challenge: str) -> str:
    """Make the kernel ready for a test of the exercise `name`. `keep` puts the true one in this place.

    reads: the names that the test's code spells. Gives "PROOF" or "PROOF what somebody should look at", where PROOF
    answers the challenge by the kept secret; or "changed WHAT" where no test can be trusted any more.
    """
    return "changed nothing was kept"


def back() -> None:
    """Give the student's names back to the notebook after a test."""


def keep(namespace: dict[str, Any], secret: str) -> None:
    """Remember what names and methods stand for now. namespace: the notebook's. secret: known to the grader alone."""
    global ready, back
    watch = _Watch(namespace)
    answer = hmac.digest

    def ready(name: str, stated: Any, reads: set[str], challenge: str) -> str:
        if what := watch.arm(name, stated, reads):
            return f"changed {what}"
        return f"{answer(secret.encode(), challenge.encode(), 'sha256').hex()} {watch.odd()}".strip()

    back = watch.disarm


class _Watch:
    """What was there before the student's code, and what the student put in its place."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace, self.kept = namespace, Kept()
        self.owners = {name: vars(sys.modules[name]) for name in MODULES if name in sys.modules}
        inherited = {}
        for module, name in CLASSES:
            if module in sys.modules:
                cls = getattr(sys.modules[module], name)
                self.owners[f"{module}.{name}"] = vars(cls)
                bases = {each for base in cls.__mro__[1:] for each in vars(base)}  # to be covered by nobody
                inherited[f"{module}.{name}"] = dict.fromkeys(bases - vars(cls).keys(), MISSING)
        self.before = {label: inherited.get(label, {}) | _callables(owner) for label, owner in self.owners.items()}
        self.names = {name: MISSING for name in vars(builtins) if name not in CHANGING}
        own = [name for name in namespace if not name.startswith("_") and name not in ("In", "Out")]
        self.names |= {name: namespace[name] for name in [*own, "__builtins__", "__builtin__"] if name in namespace}
        self.students: dict[str, Any] = {}  # what the student's code finds under these names instead
        self.armed: tuple[str, Callable, Callable] | None = None
        self.checked: list[tuple[str, str]] = []
        self.spelled: set[str] = set()  # by the test that is about to run
        self.tensors = _subclasses()

    def arm(self, name: str, stated: Any, reads: set[str]) -> str:
        """Put the names right and the exercise's function under guard; gives what was changed, "" for nothing."""
        self.disarm()
        if what := self.changed([(label, each) for label, kept in self.before.items() for each in kept]):
            return what
        if self.modes():
            return "a mode of torch's is on"
        self.spelled = spelled = reads | ALWAYS
        self.checked = [(label, each) for label, kept in self.before.items() for each in kept if each in spelled]
        function = self.namespace.get(name)
        self.students = self.swap({each: kept for each, kept in self.names.items() if each != name})
        if callable(function):
            guard = guarded(function, name, stated, self.run, self.kept)
            self.armed = name, function, guard
            self.namespace[name] = guard
        return ""

    def disarm(self) -> None:
        """Undo `arm`."""
        if self.armed and self.namespace.get(self.armed[0]) is self.armed[2]:
            self.namespace[self.armed[0]] = self.armed[1]
        self.swap(self.students)
        self.students, self.armed = {}, None

    def swap(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Bind names in the notebook; gives those that were bound to something else, with that."""
        found = {}
        for name, value in wanted.items():
            there = self.namespace.get(name, MISSING)
            if there is not value:
                found[name] = there
                if value is MISSING:
                    del self.namespace[name]
                else:
                    self.namespace[name] = value
        return found

    def run(self, function: Callable, *arguments: Any, **named: Any) -> Any:
        """Call the student's function among the student's names, and look at what it has done to anybody else's."""
        tests = {name: self.namespace.get(name, MISSING) for name in self.names}
        modes = self.modes()
        self.swap(self.students)
        try:
            return function(*arguments, **named)
        finally:
            self.students |= self.swap(tests)
            what = self.changed(self.checked) or ("torch's modes" if self.modes() != modes else "")
            if self.armed and self.namespace.get(self.armed[0]) is not self.armed[2]:
                self.namespace[self.armed[0]] = self.armed[2]
                what = what or self.armed[0]
            if what:
                raise AssertionError(f"While it ran, the function gave {what} another meaning.")

    def changed(self, places: list[tuple[str, str]]) -> str:
        """The first of some names of modules and classes that stands for something else than before."""
        for label, name in places:
            if self.owners[label].get(name, MISSING) is not self.before[label][name]:
                return f"{label}.{name}"
        return ""

    def modes(self) -> list[int]:
        """The modes of torch's that are on, through which every operation goes; a default device is none of them."""
        overrides = sys.modules.get("torch.overrides")
        dispatch = sys.modules.get("torch.utils._python_dispatch")
        found = [*overrides._get_current_function_mode_stack()] if overrides else []
        found += [*dispatch._get_current_dispatch_mode_stack()] if dispatch else []
        device = sys.modules.get("torch.utils._device")
        return [id(each) for each in found if not device or type(each) is not device.DeviceContext]

    def odd(self) -> str:
        """What else somebody should look at, in a few words: names given another meaning, classes of tensors."""
        given = sorted(name for name, value in self.students.items() if callable(value) and name in self.spelled)
        fresh = [each for each in _subclasses() - self.tensors if not str(each.__module__).startswith("torch.")]
        own = sorted({each.__name__ for each in fresh})
        said = [f"gives {', '.join(given)} another meaning"] if given else []
        return " and ".join([*said, *([f"derives {', '.join(own)} from torch.Tensor"] if own else [])])


def _callables(owner: Any) -> dict[str, Any]:
    """The functions and classes among a module's or a class's attributes; other values may change."""
    items = [item for item in owner.items() if item[0] not in CHANGING]
    return {name: value for name, value in items if callable(value) or hasattr(value, "__get__")}


def _subclasses() -> set[type]:
    torch = sys.modules.get("torch")
    found, open_ = set(), [torch.Tensor] if torch else []
    while open_:
        fresh = set(type.__subclasses__(open_.pop())) - found
        found |= fresh
        open_ += fresh
    return found
