"""The hash of what code computes: prose may change, numbers may not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import stlm_kit
from stlm_kit.code_hash import ROOMS, code_tree, rooms_hash

BEFORE = '''
"""A room."""
from typing import TYPE_CHECKING
import warnings
from stlm_kit.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


def scaled(x: float, by: float = 2.0) -> float:
    """x, larger."""
    if by <= 0:
        raise UsageError(f"by = {by} will not do; give more than 0.")
    warnings.warn("slow")
    note = "This takes a while."
    return x * by
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A room."""', '"""Another room."""'),
        ('    """x, larger."""\n', ""),
        ("    return x * by", "    # twice\n    return (x\n            * by)"),
        ("by: float = 2.0) -> float", "by=2.0)"),
        ("{by} will not do; give more than 0.", "{by!r} is too small; choose more."),
        ('"slow"', '"take your time"'),
        ('"This takes a while."', '"It takes a minute!"'),
        ("    from torch import Tensor", "    from numpy import ndarray"),
    ],
)
def test_prose_and_layout_do_not_count(old, new):
    assert old in BEFORE and code_tree(BEFORE.replace(old, new)) == code_tree(BEFORE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x * by", "x + by"),
        ("2.0", "2.5"),
        ("by <= 0", "by < 0"),
        ("note = ", "noted = "),
        ('"This takes a while."', '"cosine"'),
        ("return x * by", "return x * by if x else None"),
    ],
)
def test_what_computes_counts(old, new):
    assert old in BEFORE and code_tree(BEFORE.replace(old, new)) != code_tree(BEFORE)


def test_nothing_is_mixed_up_with_something_else():
    sources = [
        "x = 1",
        "x = 1.0",
        "x = True",
        "x = '1'",
        "x = None",
        "x: int",
        "x = [1]",
        "x = (1,)",
        "x = b'1'",
        "x = (",
        "",
    ]
    assert len({code_tree(source) for source in sources}) == len(sources)
    assert code_tree("def f(a, b): pass") != code_tree("def f(a, *, b): pass")
    assert code_tree("SPLIT = ' = (?!=).+ = ?'") != code_tree("SPLIT = ' = (?!=).* = ?'")  # an expression, no sentence


@pytest.fixture
def copy(tmp_path):
    """(hash of a copy of the package as it stands, function to edit a file of it)."""
    package = Path(shutil.copytree(Path(stlm_kit.__file__).parent, tmp_path / "house" / "stlm_kit"))

    def found() -> str:
        program = "from stlm_kit.code_hash import rooms_hash; print(rooms_hash())"
        environment = {**os.environ, "PYTHONPATH": str(package.parent)}
        return subprocess.run(
            [sys.executable, "-c", program],
            cwd=package.parent,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    def edit(file: str, old: str, new: str) -> None:
        text = (package / file).read_text()
        assert old in text
        (package / file).write_text(text.replace(old, new))

    return found, edit


def test_edits_of_the_package(copy):
    found, edit = copy
    assert found() == rooms_hash()
    edit("studies/memory/study.yaml", "title: Memory", "title: More memory")
    edit("plots/basic.py", "import", "import sys\nimport")
    edit(
        "widgets.py",
        '"""',
        '"""Changed. ',
    )
    edit("errors.py", "Did you mean", "Did you perhaps mean")
    edit("config.py", "does not divide d_model", "is no divisor of d_model")
    edit("training/settings.py", '"""Everything a training run is told', '"""All that a training run is told')
    edit("training/settings.py", 'description="None: all steps"', 'description="None: every step"')
    assert found() == rooms_hash()
    edit("training/schedules.py", " / ", " * ")
    assert found() != rooms_hash()


def test_every_room_is_there():
    package = Path(stlm_kit.__file__).parent
    assert [room for room in ROOMS if not (package / room).exists()] == []
    assert rooms_hash(("config.py",)) != rooms_hash(("config.py", "model"))
    assert rooms_hash.__wrapped__() == rooms_hash()
