"""The rules on the syntax tree: every way to spell a forbidden thing is seen, and fair answers are left alone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stlm_kit.course.assignment import Exercise
from stlm_kit.course.rules import latest, lines, violations

CONVENTION = {"name": "epsilon", "published": 1e-6, "choices": [1e-5], "sentence": "{value}"}
EXERCISE = Exercise(
    id="rms_norm",
    title="RMSNorm",
    difficulty="easy",
    minutes=15,
    chapter="chapter 02, stanza 2",
    lines=3,
    forbidden=["RMSNorm", "layer_norm"],
    forbidden_modules=["stlm_kit", "torch.nn.functional"],
    instead="Build it from a mean.",
    convention=CONVENTION,
)
SETUP = """\
import math
import torch
from torch import Tensor
from jaxtyping import Float
from stlm_kit.course import desk"""
FAIR = '''\
def rms_norm(x: Float[Tensor, "... d"], gain: Float[Tensor, "d"]) -> Float[Tensor, "... d"]:
    """x over its root mean square; unlike RMSNorm of torch, written out."""
    epsilon = 1e-6
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * gain
'''


def told(*cells):
    return violations([SETUP, *cells], "rms_norm", EXERCISE)


@pytest.mark.parametrize(
    "cells",
    [
        [FAIR],
        ["def rms_norm(x):\n    return rms_norm(x[1:]) if len(x) > 1 else x"],  # its own name, called again
        ["rms_norm = lambda x: x"],
        ["def root(x):\n    return x ** 0.5\n\ndef rms_norm(x):\n    return x / root((x * x).mean())"],
        ["from math import sqrt", "def rms_norm(x):\n    return x / sqrt(x)"],
        [FAIR, "import torch.nn.functional as F\nprint(F.rms_norm(torch.ones(2), (2,)))"],  # to compare with
        [FAIR, "from stlm_kit.model.layers import RMSNorm\nassert RMSNorm"],
        [FAIR, "open('notes.txt', 'w').write('hm')", "%time 1 + 1", "!ls", "this is not Python"],
        ["def rms_norm(x):\n    getattr(x, 'mean')\n    return [y for y in x if (z := y)]"],
        ["import re\n\ndef rms_norm(x):\n    return re.compile('a')"],
        ["def rms_norm(model):\n    model.eval()\n    return [*model.modules()]"],
        ["count = 0\n\ndef rms_norm(x):\n    global count\n    count += 1\n    return x"],
        ["@torch.no_grad()\ndef rms_norm(x):\n    return x"],
        ["%%time\n" + FAIR],
        ["def layer_norm(x):\n    return x - x.mean()", "def rms_norm(x):\n    y = layer_norm(x)\n    return y"],
        ["def rms_norm(x, sys=1):\n    RMSNorm = open = x\n    return RMSNorm + open"],  # names of one's own
        ["import numpy as np", "import collections.abc", "def rms_norm(x):\n    return np.sqrt(x), collections"],
    ],
)
def test_fair_answers_are_left_alone(cells):
    assert told(*cells) == []


@pytest.mark.parametrize(
    ("cells", "word"),
    [
        (["def rms_norm(x):\n    return torch.nn.RMSNorm(4)(x)"], "RMSNorm"),
        (["def rms_norm(x):\n    return torch.rms_norm(x, (4,))"], "rms_norm"),  # its own name as an attribute
        (["from torch import rms_norm"], "rms_norm"),
        (["rms_norm = torch.rms_norm"], "rms_norm"),
        (["from torch.nn import RMSNorm as Plain\n\ndef rms_norm(x):\n    return Plain(4)(x)"], "RMSNorm"),
        (["f = torch.nn.functional.rms_norm", "def rms_norm(x):\n    return f(x, (4,))"], "rms_norm"),
        (
            ["def rms_norm(x):\n    return help_me(x)", "def help_me(x):\n    return torch.layer_norm(x, (4,))"],
            "layer_norm",
        ),
        (["def rms_norm(x):\n    return getattr(torch, 'rms_norm')(x, (4,))"], "rms_norm"),
        (["def rms_norm(x):\n    return getattr(torch, 'nothing', torch.layer_norm)(x)"], "layer_norm"),
        (["table = {}\ntable['f'] = torch.layer_norm", "def rms_norm(x):\n    return table['f'](x)"], "layer_norm"),
        (["fs = []\nfs.append(torch.layer_norm)", "def rms_norm(x):\n    return fs[0](x)"], "layer_norm"),
        (["math.sqrt = torch.layer_norm", "def rms_norm(x):\n    return math.sqrt(x)"], "layer_norm"),
        (["def rms_norm(x, f=torch.layer_norm):\n    return f(x)"], "layer_norm"),
        (["def wrap(f):\n    return torch.layer_norm\n\n@wrap\ndef rms_norm(x):\n    return x"], "layer_norm"),
        (["class C:\n    f = torch.layer_norm\n\ndef rms_norm(x):\n    return C.f(x)"], "layer_norm"),
        (["if True:\n    g = torch.layer_norm\n\ndef rms_norm(x):\n    return g(x)"], "layer_norm"),
        (["def rms_norm(x):\n    names = ['layer_norm']\n    return names"], "layer_norm"),
        (["def rms_norm(x):\n    from stlm_kit.model import layers\n    return layers"], "stlm_kit"),
        (["import stlm_kit as kit", "def rms_norm(x):\n    return kit.model"], "stlm_kit"),
        (["def rms_norm(x):\n    return desk"], "stlm_kit"),
        (["import torch.nn.functional as F\n\ndef rms_norm(x):\n    return F.normalize(x)"], "torch.nn.functional"),
        (["def rms_norm(x):\n    return torch.nn.functional.normalize(x)"], "torch.nn.functional"),
        (
            ["from torch.nn import functional as F\n\ndef rms_norm(x):\n    return F.normalize(x)"],
            "torch.nn.functional",
        ),
        (["%%capture\nf = torch.layer_norm", "def rms_norm(x):\n    return f(x)"], "layer_norm"),
        ([FAIR, "def swap():\n    global rms_norm\n    rms_norm = torch.layer_norm\nswap()"], "layer_norm"),
    ],
)
def test_every_spelling_of_a_forbidden_thing_is_seen(cells, word):
    sentences = told(*cells)
    assert any(word in sentence and sentence.endswith("forbids. Build it from a mean.") for sentence in sentences)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("eval('1')", "eval"),
        ("exec('1')", "exec"),
        ("compile('1', '', 'exec')", "compile"),
        ("__import__('torch')", "__import__"),
        ("globals()['f']", "globals"),
        ("vars(torch)", "vars"),
        ("getattr(torch, 'rms' + '_norm')", "getattr"),
        ("(lambda g: g(torch, 'x'))(getattr)", "getattr"),
        ("setattr(torch, 'f', x)", "setattr"),
        ("torch.__dict__['f']", "__dict__"),
        ("torch.sys.modules", "sys"),
        ("sys._getframe(1)", "_getframe"),
        ("get_ipython()", "get_ipython"),
        ("In[-1]", "In"),
        ("print.__globals__", "__globals__"),
        ("f(x)\nif 0: f = 1\nexec('f = torch.rms_norm')", "exec"),
        ("eval(x)\nif 0: eval = 1", "eval"),
        ("get_ipython()\nif 0: get_ipython = 1", "get_ipython"),
    ],
)
def test_a_lookup_that_cannot_be_read_is_seen(body, word):
    assert any(f"uses {word}" in sentence and "read" in sentence for sentence in told(f"def rms_norm(x):\n    {body}"))


@pytest.mark.parametrize(
    "body", ["open('answers')", "os.environ", "torch.os.listdir()", "pathlib.Path('x')", "import subprocess"]
)
def test_files_and_programs_are_seen(body):
    assert any("reads and writes no files" in sentence for sentence in told(f"def rms_norm(x):\n    {body}"))


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        ([], "There is no function rms_norm; keep the name the exercise gives it."),
        (["def rms_norms(x):\n    return x"], "There is no function rms_norm; keep the name the exercise gives it."),
        (["x = 1\ndef rms_norm(x)\n    return x"], "A cell has a syntax error in line 2: expected ':'."),
        (["def rms_norm(x):\n    return expected"], "rms_norm uses expected, which none of your cells defines."),
        (
            ["from math import *", "def rms_norm(x):\n    return sqrt(x)"],
            "rms_norm uses sqrt, which none of your cells",
        ),
        (["%%bash\nhelp_me = 1 2", "def rms_norm(x):\n    return help_me"], "rms_norm uses help_me, which none of"),
        (
            ["import answers", "def rms_norm(x):\n    return answers.f(x)"],
            "rms_norm uses the module answers; use torch",
        ),
        (["from transformers import X", "def rms_norm(x):\n    return X(x)"], "rms_norm uses the module transformers"),
        (["from . import f", "def rms_norm(x):\n    return f(x)"], "rms_norm uses the module beside it; use torch,"),
    ],
)
def test_what_is_missing_is_told(cells, sentence):
    assert [each[: len(sentence)] for each in told(*cells)] == [sentence]


def test_each_thing_is_told_once_and_in_order():
    twice = "def rms_norm(x):\n    open('a'); open('b')\n    return torch.layer_norm(torch.layer_norm(x))"
    assert [sentence.split()[2].strip(";,") for sentence in told(twice)] == ["open", "layer_norm"]


PIECES = ["def rms_norm(x):\n", "    ", "return ", "x", "torch.", "RMSNorm", "(", ")", "[", "'", '"', "\n", "\\"]
PIECES += ["global ", "nonlocal x\n", "lambda: ", "%%time\n", "!ls\n", "f'{", "}'", "import ", " as ", "*", ":", "="]
PIECES += ["é", "\r", "\x0c", "\x00", "\ud800"]


@settings(max_examples=200)
@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join)))
def test_no_text_makes_the_rules_fail(text):
    for cells in ([text], [FAIR, text]):
        assert all(isinstance(sentence, str) and sentence for sentence in told(*cells))
        latest(cells)


def test_deep_nesting_is_told_not_raised():
    assert told("rms_norm = " + "(" * 5000 + ")" * 5000) != []


@given(st.text(alphabet="abcdefg_", min_size=1))
def test_any_unknown_name_is_told(name):
    found = told(f"def rms_norm(x):\n    return q{name}")
    assert found == [f"rms_norm uses q{name}, which none of your cells defines."]


# --- lines ---


@pytest.mark.parametrize(
    ("code", "count"),
    [
        (FAIR, 2),
        ('def rms_norm(x):\n    """Only\n    words."""', 0),
        ("def rms_norm(x): return x", 1),
        ("def rms_norm(\n    x,\n):\n    # why\n\n    y = (\n        x\n        # more\n    )\n    return y  # so", 4),
        ('def rms_norm(x):\n    return """a\n\nb"""', 3),
        ("def other(x):\n    return x", 0),
        ("def rms_norm(x):\n    return x\n\ndef rms_norm(x):\n    x = x\n    return x", 2),
        ("%time 1\ndef rms_norm(x):\n    !ls\n    return x", 2),
    ],
)
def test_lines_of_code_in_the_body(code, count):
    assert lines(code, "rms_norm") == count


def test_statements_run_again_replace_their_older_selves():
    first, second = "import torch, math\ntable = {}\ndef f(x):\n    return 1", "def f(x):\n    return 2\nmath = 3"
    changing = "table['f'] = f\nf(1)"
    assert latest([first, changing, second, "def broken("]) == [
        "import torch", "table = {}", "table['f'] = f", "def f(x):\n    return 2", "math = 3",
    ]  # fmt: skip
