"""What was asked for, resolved and validated before anything starts."""

import pytest

from stlm_kit.cli import main
from stlm_kit.errors import KitError, UsageError
from stlm_kit.reproduce.request import Request, need_gpu, parse_shard, plan


@pytest.fixture
def chapters(course):
    for number, name in enumerate(["start", "data", "decoder", "training", "memory"]):
        course.chapter(f"{number:02}_{name}_x", "1")
    return course.folder


def names(request: Request) -> list[str]:
    return [run.name for run in plan(request)]


@pytest.mark.parametrize("name", ["02", "2", "decoder_x", "decoder-x", "02_decoder_x", "02_decoder_x.ipynb"])
def test_a_chapter_has_many_names(chapters, name):
    assert names(Request([name], notebooks=chapters)) == ["02_decoder_x"]


def test_without_names_every_chapter_and_each_once(chapters):
    everything = names(Request(notebooks=chapters))
    assert [name[:2] for name in everything] == ["00", "01", "02", "03", "04"]
    assert names(Request(["03", "chapters", "0"], notebooks=chapters)) == [
        everything[3],
        *everything[:3],
        everything[4],
    ]


def test_unknown_names_are_answered_with_near_ones(chapters):
    with pytest.raises(UsageError, match=r"'02_decodr_x'.*Did you mean '02_decoder_x'"):
        plan(Request(["02_decodr_x"], notebooks=chapters))
    with pytest.raises(UsageError, match=r"'05'.*There are 00_start_x, .*memory"):
        plan(Request(["05"], notebooks=chapters))
    with pytest.raises(UsageError, match=r"'x-b7'.*There are"):
        plan(Request(only="x-b7", notebooks=chapters))
    with pytest.raises(UsageError, match=r"profile 'mig2'.*Did you mean 'mig20'"):
        plan(Request(profile="mig2", notebooks=chapters))


def test_shards_are_a_partition(chapters):
    everything = names(Request(notebooks=chapters))
    for count in (1, 2, 3, 7):
        shards = [names(Request(notebooks=chapters, shard=(index, count))) for index in range(1, count + 1)]
        assert sorted(name for shard in shards for name in shard) == everything
        assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_only_takes_a_number_too(chapters):
    assert names(Request(only="03", notebooks=chapters)) == names(Request(only="03_training_x", notebooks=chapters))


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3"])
def test_shards_that_cannot_be(text):
    with pytest.raises(UsageError, match="1/4"):
        parse_shard(text)


@pytest.mark.parametrize(
    ("parameter", "sentence"),
    [
        ("stpes=5", "Did you mean 'steps'"),
        ("batch_size=5", "has no parameter 'batch_size'"),  # of the vocabulary, but not declared
        ("steps=many", "steps = 'many'"),
        ("steps=0", "greater than or equal to 1"),
        ("profile=mig20", "--profile"),
    ],
)
def test_a_wrong_parameter_stops_everything_before_it_starts(chapters, runs, parameter, sentence, capsys):
    assert main(["reproduce", "--notebooks", str(chapters), "-p", parameter]) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1 and "Traceback" not in said
    assert not runs.exists() or not list(runs.rglob("*.*"))


def test_relative_paths_become_absolute(chapters, tmp_path, monkeypatch):
    (tmp_path / "mine.txt").write_text("text")
    monkeypatch.chdir(tmp_path)
    [run] = plan(Request(["02"], parameters={"corpus": "mine.txt"}, notebooks=chapters))
    assert run.parameters["corpus"] == str(tmp_path / "mine.txt")


def test_a_studys_runs_carry_their_parameters():
    runs = plan(Request(["memory"], parameters={"steps": "7", "norm_epsilon": "1e-4", "beta_1": 0.8}))
    assert {run.parameters["settings"]["steps"] for run in runs} == {7}
    assert {run.parameters["settings"]["norm_epsilon"] for run in runs} == {1e-4}
    assert {run.parameters["settings"]["recipe"] for run in runs} >= {"fp32+eager+study", "bf16+eager+study"}
    assert all(run.parameters["measure_memory"] for run in runs)
    assert runs[-1].labels == {"technique": "checkpoint", "batch_size": 16}
    [run] = plan(Request(["memory"], only="fp32-b4", parameters={"measure_memory": "false"}))
    assert run.parameters["measure_memory"] is False
    with pytest.raises(UsageError, match="no preset named"):
        plan(Request(["memory"], parameters={"preset": "gpt-5"}))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"norm_epsilom": "1"}, "nothing to set under the name 'norm_epsilom'. Did you mean 'norm_epsilon'"),
        ({"steps": "many"}, "steps = 'many' will not do"),
        ({"n_heads": "7"}, "n_heads = 7 does not divide d_model"),
        ({"learning_rate": "1e-5"}, "lies above learning_rate"),
        ({"device": "gpu"}, "no device named 'gpu'"),
        ({"measure_memory": "perhaps"}, "measure_memory = 'perhaps' will not do"),
        ({"run_name": "mine"}, "'run_name' is not for a study's run to set"),
    ],
)
def test_a_wrong_setting_of_a_study_stops_it_before_it_starts(given, sentence):
    with pytest.raises(UsageError, match=sentence) as raised:
        plan(Request(["memory"], parameters=given))
    assert "\n" not in str(raised.value)


def test_mig20_needs_a_gpu(chapters, monkeypatch):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    runs = plan(Request(["02"], profile="mig20", notebooks=chapters))
    assert runs[0].parameters["profile"] == "mig20"
    with pytest.raises(KitError, match="needs a CUDA GPU"):
        need_gpu(runs)
    monkeypatch.setenv("STLM_ALLOW_CPU", "1")
    need_gpu(runs)


def test_no_chapters(tmp_path):
    with pytest.raises(KitError, match="There is no chapter"):
        plan(Request(notebooks=tmp_path))


def test_a_folder_of_chapters_that_is_not_there(tmp_path):
    with pytest.raises(KitError, match="There is no folder"):
        plan(Request(["00"], notebooks=tmp_path / "nowhere"))
