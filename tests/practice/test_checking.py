"""`%%check`: whose version runs, what is said, and what is left behind."""

import pytest

from stlm_kit.errors import KitError, UsageError
from stlm_kit.practice import checking
from stlm_kit.practice.checking import Practice
from stlm_kit.practice.student_copy import practice_copy

RIGHT = {
    "total": "def total(numbers):\n    n = 0.0\n    for number in numbers:\n        n += number\n    return n",
    "mean": "def mean(numbers):\n    return total(numbers) / len(numbers)",
    "Scale": "class Scale:\n    def __call__(self, x):\n        return x + x",
}


@pytest.fixture
def practise(shell, chapter, capsys):
    """Run the chapter's practice copy with these cells in place of stubs; gives what each code cell printed."""

    def practise(**written: str) -> list[str]:
        practice = Practice(shell, "99_in_small", chapter.cells)
        shell.register_magic_function(practice.check, magic_kind="cell", magic_name="check")
        printed = []
        for cell in practice_copy(chapter, "99_in_small").cells:
            if cell.cell_type != "code" or "practice" in cell.metadata.get("tags", []):
                continue
            names = [name for name in written if cell.source.startswith((f"def {name}(", f"class {name}:"))]
            done = shell.run_cell(written[names[0]] if names else cell.source, store_history=True)
            assert names or done.success, done.error_in_exec
            printed.append(capsys.readouterr().out)
        practise.practice = practice
        return printed

    return practise


def test_stubs_are_named_and_the_chapter_goes_on(practise):
    printed = practise()
    assert "✗ total: still to write, about 1 line. The chapter goes on with its own version." in printed[3]
    assert "✗ mean: still to write" in printed[3] and "same: the mean" in printed[3]
    assert "✗ Scale: still to write" in printed[6] and "same: twice three" in printed[6]
    assert printed[7].strip() == "2.0 2"
    assert not any(practise.practice.written.values())


def test_right_ones_are_the_students(practise, shell):
    printed = practise(**RIGHT)
    assert "✓ total is yours." in printed[3] and "✓ mean is yours." in printed[3] and "✓ Scale is yours." in printed[6]
    assert all(practise.practice.written.values())
    assert shell.user_ns["kept"] == [2.0]


def test_of_two_the_wrong_one_is_named_and_the_other_stays(practise, shell):
    printed = practise(**{**RIGHT, "mean": "def mean(numbers):\n    return total(numbers) / 2"})
    assert "✓ total is yours." in printed[3]
    assert "✗ mean: the mean: 1 of 1 numbers differ by more than 1e-06" in printed[3]
    assert printed[7].strip() == "2.0 2"
    assert shell.user_ns["kept"] == [2.0], "the cell ran several times, and only its last run may leave a trace"
    assert practise.practice.written == {"total": True, "mean": False, "Scale": True}


def test_two_wrong_ones_are_both_named(practise):
    printed = practise(total="def total(numbers):\n    return 5.0", mean="def mean(numbers):\n    return undefined")
    assert "✗ total: the sum" in printed[3]
    assert "✗ mean: NameError: name 'undefined' is not defined." in printed[3]


def test_a_cell_that_does_not_run_counts_as_unwritten(practise):
    printed = practise(total="def total(numbers:\n    return 6.0")
    assert "✗ total: still to write" in printed[3]


def test_a_class_built_on_a_wrong_one_is_built_anew(practise):
    printed = practise(Scale="class Scale:\n    def __call__(self, x):\n        return 3 * x")
    assert "✗ Scale: twice three" in printed[6]
    assert printed[7].strip() == "2.0 2"


def test_a_check_that_fails_by_itself_says_so(practise, chapter):
    chapter.cells[4].source = "checks.same(total(numbers), 7.0, what='the sum')"
    printed = practise()
    assert "fails with the chapter's own version too" in printed[3]


def test_a_name_that_is_no_turn_is_one_sentence(shell, chapter):
    with pytest.raises(UsageError, match="no 'totl' to write"):
        Practice(shell, "99_in_small", chapter.cells).check("totl", "")


def test_begin_and_standing_say_where_they_belong(monkeypatch):
    monkeypatch.setattr(checking, "_current", None)
    with pytest.raises(UsageError, match="run the first cells"):
        checking.standing()
    with pytest.raises(KitError, match="JupyterLab"):
        checking.begin("02")
