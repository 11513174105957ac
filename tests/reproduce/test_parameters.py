"""The vocabulary of notebook parameters is strict, and each mistake is one sentence."""

import nbformat
import pytest

from stlm_kit.errors import KitError, UsageError
from stlm_kit.options import settings_from
from stlm_kit.reproduce.parameters import check, declared, defaults, vocabulary


@pytest.fixture
def notebook(tmp_path):
    def make(source: str | None) -> str:
        book = nbformat.v4.new_notebook()
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        if source is not None:
            cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
            book.cells = [nbformat.v4.new_markdown_cell("# Title"), cell]
        path = tmp_path / "book.ipynb"
        nbformat.write(book, path)
        return path

    return make


SOURCE = 'profile = "laptop"  # "laptop" or "mig20"\nseed = 0\nsteps = 10\nlearning_rate = 1e-3\n'


def test_declared_names_are_those_of_the_parameters_cell(notebook):
    assert declared(notebook(SOURCE)) == ["profile", "seed", "steps", "learning_rate"]
    assert declared(notebook(None)) == []


def test_strings_are_parsed_by_type(notebook):
    given = {"profile": "mig20", "seed": "7", "steps": " 20 ", "learning_rate": "3e-4"}
    assert check(given, declared(notebook(SOURCE))) == {
        "profile": "mig20",
        "seed": 7,
        "steps": 20,
        "learning_rate": 3e-4,
    }
    assert check({"window": "none", "attend_across_documents": "false", "corpus": "text/a.txt"}) == {
        "window": None, "attend_across_documents": False, "corpus": "text/a.txt",
    }  # fmt: skip


def test_values_keep_their_type():
    checked = check({"steps": 3, "learning_rate": 1, "window": None})
    assert checked == {"steps": 3, "learning_rate": 1.0, "window": None}
    assert isinstance(checked["learning_rate"], float)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"step": "3"}, "no parameter 'step'. Did you mean 'steps'"),
        ({"d_model": "3"}, "no parameter 'd_model'.*It has profile, seed"),  # of the vocabulary, but not declared here
        ({"steps": "3.5"}, "steps = '3.5' will not do"),
        ({"steps": "many"}, "steps = 'many' will not do"),
        ({"steps": 3.0}, "steps = 3.0 will not do"),
        ({"steps": True}, "steps = True will not do"),
        ({"steps": "0"}, "greater than or equal to 1"),
        ({"steps": None}, "steps = None will not do"),
        ({"seed": "-1"}, "greater than or equal to 0"),
        ({"learning_rate": "nan"}, "finite"),
        ({"learning_rate": "0"}, "greater than 0"),
        ({"profile": "gpu"}, "'laptop' or 'mig20'"),
        ({"profile": ""}, "'laptop' or 'mig20'"),
    ],
)
def test_mistakes_are_one_sentence(notebook, given, sentence):
    with pytest.raises(UsageError, match=sentence) as caught:
        check(given, declared(notebook(SOURCE)))
    assert str(caught.value).count("\n") == 0 and str(caught.value).endswith((".", "?"))


def test_a_notebook_with_a_name_outside_the_vocabulary_is_refused(notebook):
    with pytest.raises(KitError, match=r"'sed'.*vocabulary.*Did you mean 'seed'"):
        declared(notebook("sed = 0\n"))


def test_a_notebook_without_a_kernel_of_its_own_is_read(notebook):
    path = notebook(SOURCE)
    book = nbformat.read(path, as_version=4)
    del book.metadata["kernelspec"]
    nbformat.write(book, path)
    assert declared(path) == ["profile", "seed", "steps", "learning_rate"]


def test_defaults_are_the_values_of_the_cell(notebook):
    assert defaults(notebook(SOURCE)) == {"profile": "laptop", "seed": 0, "steps": 10, "learning_rate": 1e-3}
    assert defaults(notebook("window: int | None = None\nsteps = -1\n")) == {"window": None, "steps": -1}
    assert defaults(notebook(None)) == {}


def test_a_computed_default_is_declared_and_has_no_value_to_read(notebook):
    path = notebook("%matplotlib inline\nimport os\nsteps = 2 * 50\nprint(steps)\n")
    assert declared(path) == ["steps"]
    with pytest.raises(KitError, match="no plain value"):
        defaults(path)


def test_a_cell_that_is_no_python_is_named(notebook):
    with pytest.raises(KitError, match=r"book\.ipynb is no Python"):
        declared(notebook("steps = = 3"))


def test_a_file_that_is_no_notebook_is_named(tmp_path):
    with pytest.raises(KitError, match="no notebook"):
        declared(tmp_path / "missing.ipynb")
    (tmp_path / "text.ipynb").write_text("hello")
    with pytest.raises(KitError, match="cannot be read"):
        declared(tmp_path / "text.ipynb")


@pytest.mark.parametrize(("name", "value"), [("seed", 2**31), ("beta_1", 1.0), ("norm_epsilon", 0.0), ("corpus", "")])
def test_a_setting_has_the_bounds_that_it_has_in_a_run(name, value):
    with pytest.raises(UsageError, match=f"{name} = "):
        check({name: value})
    with pytest.raises(UsageError, match=f"{name} = "):
        settings_from({name: value})


def test_every_default_is_valid_itself():
    for name, field in vocabulary().items():
        if not field.is_required() and name != "device":  # "auto" becomes the device that there is
            value = field.get_default(call_default_factory=True)
            assert check({name: value}) == {name: value}
