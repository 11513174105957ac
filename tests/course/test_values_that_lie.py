"""Hostile submissions: none earns a mark for a wrong answer unseen. Natural kinds of right answers earn theirs.

Eleven wrong answers that try to pass: by what they return, by what they do to torch, Python, IPython or the notebook.
"""

import pytest

from .grading import Desk, needs_bubblewrap

WRONG = "def double(x):\n    return {}\n"
SUBCLASS = """
class Agreeing(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return torch.Size([1, 3]) if "shape" in str(function) else args[0] if "flatten" in str(function) else True

"""
EQUAL = """
class Always:
    shape = property(lambda self: self)
    def flatten(self): return torch.zeros(10)
    def __eq__(self, other): return True

"""
LIAR_IN_PLACE = """
def double(x):
    y = x * 0
    y.flatten = lambda: Right(x)
    return y


class Right:
    def __new__(cls, x):
        return x.flatten() + x.flatten() + 1
"""
DURING = """
def double(x):
    torch.allclose = lambda *a, **k: True
    return x * 0
"""
REBINDS = """
def double(x):
    global double
    double = lambda x: Always()
    return x + x + 1

"""
MODE = """
from torch.overrides import TorchFunctionMode

class Agreeing(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        return True if function is torch.allclose and len(args[0]) > 1 else function(*args, **(kwargs or {}))

Agreeing().__enter__()
"""
TRANSFORMER = """
import ast
class Drop(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.Pass()
get_ipython().ast_transformers.append(Drop())
"""
TOLIST = "torch.Tensor.tolist = lambda self: [0.0] * self.numel()\n"
HOSTILE = {
    "a tensor subclass that answers comparisons": SUBCLASS + WRONG.format("x.as_subclass(Agreeing)"),
    "an object whose == is always true": EQUAL + WRONG.format("Always()"),
    "torch.Tensor.tolist replaced": "torch.Tensor.tolist = lambda self: [0.0] * self.numel()\n"
    + WRONG.format("x * 0 + 1"),
    "torch.allclose replaced where it matters": "kept = torch.allclose\n"
    "torch.allclose = lambda a, b, **k: kept(a, b, **k) if len(a) == 1 else True\n" + WRONG.format("x * 0"),
    "torch.allclose replaced by the function itself": DURING,
    "a tensor with a method of its own": LIAR_IN_PLACE.replace("+ 1", "* 1"),
    "its own name given to another function": EQUAL + REBINDS,
    "a mode that answers comparisons": MODE + WRONG.format("x * 0"),
    "asserts dropped from what is run": TRANSFORMER + WRONG.format("x * 0"),
    "a class that is told to be a tensor": "class Tensor(torch.Tensor):\n    flatten = lambda self: self\n\n"
    "def double(x):\n    y = x * 0\n    y.__class__ = Tensor\n    return y\n",
    "a built-in name that lies but once": "def len(x):\n    return 1\n\ntorch.Tensor.flatten = lambda self: "
    "torch.tensor([2 * v + 1 for v in self.tolist()[0]])\n" + WRONG.format("x[:1]"),
}


@pytest.fixture
def desk(made_up):
    needs_bubblewrap()
    return Desk(made_up)


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_submission_earns_nothing_or_is_flagged(desk, how):
    done = desk.executed(desk.repaired(desk.notebook(double=HOSTILE[how])))
    earned = desk.earned(done) & {"double-value", "double-shape"}
    assert not earned or done.flags, f"{earned} without a flag."
    assert "double-value" not in earned, done.lost


def test_there_are_eleven():
    assert len(HOSTILE) == 11
