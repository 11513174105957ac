"""Study files: grids expanded into named runs, and their mistakes."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stlm_kit.errors import KitError, UsageError
from stlm_kit.reproduce.study_file import Grid, Study, labels_of, load_study, study_names
from stlm_kit.reproduce.study_runs import run_parameters

ABOUT = {"source": "mine", "title": "Mine", "citation": "nobody, 2024", "claims": [{"id": "mine.a"}]}
GRID = {
    "name": "{technique}-b{batch_size}",
    "grid": {
        "technique": {"plain": {"recipe": "fp32"}, "window-16": {"recipe": "bf16", "window": 16}},
        "batch_size": [4, 8],
    },
    "parameters": {"corpus": "sotu", "steps": 5},
    "profiles": {"laptop": {"parameters": {"steps": 2}}, "mig20": {"grid": {"batch_size": [32, 64, 128]}}},
    "answers": ["mine.a"],
}


def write(path, **changes):
    path.write_text(yaml.safe_dump({**ABOUT, "runs": [{**GRID, **changes}]}, sort_keys=False))
    return path


def test_a_grid_becomes_named_runs(tmp_path):
    runs = load_study(write(tmp_path / "mine.yaml")).expand("laptop")
    assert list(runs) == ["plain-b4", "plain-b8", "window-16-b4", "window-16-b8"]
    assert runs["window-16-b8"] == {"corpus": "sotu", "steps": 2, "recipe": "bf16", "window": 16, "batch_size": 8}


def test_each_run_has_its_labels():
    study = Study.model_validate({**ABOUT, "runs": [GRID]})
    assert study.cells("mig20")["window-16-b128"].labels == {"technique": "window-16", "batch_size": 128}
    assert labels_of("memory", "window-16-b8", "laptop") == {"technique": "window-16", "batch_size": 8}
    assert labels_of("memory", "window-16-b128", "mig20") == {"technique": "window-16", "batch_size": "128"}
    assert labels_of("memory", "window-17-b8", "laptop") == labels_of("poster", "a", "laptop") == {}
    assert labels_of("nobody", "a", "laptop") == {}


def test_a_profile_replaces_an_axis_and_adds_parameters(tmp_path):
    runs = load_study(write(tmp_path / "mine.yaml")).expand("mig20")
    assert [run["batch_size"] for run in runs.values()] == [32, 64, 128] * 2
    assert {run["steps"] for run in runs.values()} == {5}


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3))
@settings(max_examples=20)
def test_as_many_runs_as_combinations(sizes):
    axes = {name: list(range(1, size + 1)) for name, size in zip(["batch_size", "steps", "seed"], sizes, strict=False)}
    grid = Grid(name="-".join(f"{{{name}}}" for name in axes), grid=axes, profiles={"laptop": {}})
    runs = grid.expand("laptop")
    product = 1
    for size in sizes:
        product *= size
    assert len(runs) == product
    assert len({tuple(run.items()) for run in runs.values()}) == product


def test_names_become_folders():
    grid = Grid(name="{preset}/{corpus}", parameters={"preset": "a b", "corpus": "../x"}, profiles={"laptop": {}})
    assert list(grid.expand("laptop")) == ["a-b-..-x"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "{technique}"}, "Two runs are called 'plain'"),
        ({"name": "{colour}-b{batch_size}"}, "cannot be filled"),
    ],
)
def test_names_that_cannot_be(tmp_path, changes, sentence):
    with pytest.raises(KitError, match=sentence):
        load_study(write(tmp_path / "mine.yaml", **changes)).expand("laptop")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"answers": ["mine.b"]}, "answer 'mine.b', none of its claims.*'mine.a'"),
        ({"girds": {}}, "no setting named 'runs.0.girds'"),
        ({"profiles": {"desktop": {}}}, "desktop"),
        ({"profiles": {}}, "profiles"),
    ],
)
def test_files_that_cannot_be(tmp_path, changes, sentence):
    with pytest.raises(KitError, match=sentence) as raised:
        load_study(write(tmp_path / "mine.yaml", **changes))
    assert "\n" not in str(raised.value)


def test_a_single_run_answers_a_claim(tmp_path):
    tie = {"metric": "perplexity", "run": "plain-b64"}
    assert load_study(write(tmp_path / "mine.yaml", answers={"mine.a": tie})).measures["mine.a"].run == "plain-b64"
    del tie["run"]
    one = {"name": "only", "grid": {}, "profiles": {"mig20": {}}, "answers": {"mine.a": tie}}
    assert load_study(write(tmp_path / "mine.yaml", **one)).measures["mine.a"].run == "only"
    assert load_study(write(tmp_path / "mine.yaml")).measures == {}  # what many answer together, a chapter tells


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"answers": {"mine.a": {"metric": "loss", "run": "plain-b65"}}}, "the run 'plain-b65'.*'plain-b64'"),
        ({"answers": {"mine.a": {"metric": "loss"}}}, "the run ''"),
        ({"answers": {"mine.b": {"metric": "loss"}}}, "'mine.b', none of its claims"),
        ({"answers": {"mine.a": {"metric": "loss", "run": "plain-b4"}}}, "the run 'plain-b4'"),  # a laptop's run
        ({"answers": {"mine.a": {"run": "plain-b64"}}}, "metric"),
        ({"answers": {"mine.a": {"metric": "loss", "run": "plain-b64", "divide_by": 0}}}, "divide_by"),
    ],
)
def test_a_tie_that_cannot_be(tmp_path, changes, sentence):
    with pytest.raises(KitError, match=sentence) as raised:
        load_study(write(tmp_path / "mine.yaml", **changes))
    assert "\n" not in str(raised.value)


def test_two_runs_that_each_answer_a_claim_are_refused(tmp_path):
    path = write(tmp_path / "mine.yaml", answers={"mine.a": {"metric": "loss", "run": "plain-b64"}})
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, "runs": [*content["runs"], {**content["runs"][0], "parameters": {}}]}))
    with pytest.raises(KitError, match=r"two runs that each answer 'mine\.a'"):
        load_study(path)


@pytest.mark.parametrize("text", ["runs: [", "- a list", "", "\x00"])
def test_not_a_study_file(tmp_path, text):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(KitError, match=r"bad\.yaml"):
        load_study(tmp_path / "bad.yaml")


def test_unknown_names_are_answered_with_near_ones(tmp_path):
    with pytest.raises(UsageError, match="Did you mean 'memory'"):
        load_study("memroy")
    with pytest.raises(KitError, match="cannot be read"):
        load_study(tmp_path / "missing.yaml")


def test_a_study_without_runs_says_so():
    with pytest.raises(UsageError, match="no runs at the profile laptop; so far it only holds claims"):
        Study(**ABOUT).expand("laptop")


@pytest.mark.parametrize("name", study_names())
def test_the_kits_own_studies_are_valid(name):
    study = load_study(name)
    assert study.name == name
    for grid in study.runs:
        for profile in grid.profiles:
            for parameters in grid.expand(profile).values():
                assert run_parameters(parameters, profile)["settings"]["preset"] == parameters["preset"]
