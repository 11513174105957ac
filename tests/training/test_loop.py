"""The loop: resumes bit for bit, stops when asked, keeps the last good checkpoint, one run a folder."""

import getpass
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
import torch

from stlm_kit import Interrupted, KitError, UsageError
from stlm_kit.training import train
from stlm_kit.training.checkpoint import latest_checkpoint
from stlm_kit.training.compilation import cannot_compile, compiled


def evaluate(model):
    assert not model.training
    return {"perplexity": float(sum(p.abs().sum() for p in model.parameters()))}


class Killed(BaseException):
    """Stands for the process ending between two lines."""


class StopAt:
    """Batches that end the process, in one way or another, when a step's batch is fetched."""

    description = "random tokens"

    def __init__(self, batches, step, action):
        self.batches, self.step, self.action = batches, step, action

    def __call__(self, seed, index):
        if index == self.step - 1:
            self.action()
        return self.batches(seed, index)


def die():
    raise Killed


@pytest.mark.parametrize("step", [1, 3, 4, 5, 9, 12])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, batches, make_model, settings, step):
    whole = train(make_model(), batches, settings, evaluate=evaluate)
    with pytest.raises(Killed):
        train(make_model(), StopAt(batches, step, die), settings, run_dir=tmp_path / "run", evaluate=evaluate)
    resumed = train(make_model(seed=99), batches, settings, run_dir=tmp_path / "run", evaluate=evaluate)
    # A run killed before its first checkpoint starts over from the model it is given.
    if step > settings.checkpoint_every:
        assert resumed.losses == whole.losses
        assert resumed.validation == whole.validation
        for mine, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
            assert torch.equal(mine, theirs)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 13))


@pytest.mark.parametrize("recipe", ["8bit", "in-backward", "study+checkpoint", "bf16+selective+chunked+valid"])
def test_so_it_does_under_any_recipe(tmp_path, batches, make_model, settings, recipe):
    settings = settings.model_copy(update={"recipe": recipe})
    wide = {"d_model": 64, "d_ff": 128}  # wide enough for 8-bit moments
    whole = train(make_model(**wide), batches, settings)
    with pytest.raises(Killed):
        train(make_model(**wide), StopAt(batches, 6, die), settings, run_dir=tmp_path / "run")
    resumed = train(make_model(seed=99, **wide), batches, settings, run_dir=tmp_path / "run")
    assert resumed.losses == whole.losses
    assert all(map(torch.equal, resumed.model.parameters(), whole.model.parameters()))


def test_a_recipe_that_does_not_suit_the_device_is_refused_before_the_first_step(batches, make_model, settings):
    with pytest.raises(UsageError, match="use bf16"):
        train(make_model(), batches, settings.model_copy(update={"recipe": "fp16"}))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_a_signal_saves_and_the_next_start_goes_on(tmp_path, batches, make_model, settings, name):
    whole = train(make_model(), batches, settings)
    stopping = StopAt(batches, 6, lambda: os.kill(os.getpid(), getattr(signal, name)))
    with pytest.raises(Interrupted, match=f"{name} after step 6") as caught:
        train(make_model(), stopping, settings, run_dir=tmp_path)
    assert caught.value.exit_status == 3
    assert latest_checkpoint(tmp_path / "checkpoint").name == "step-6"
    assert train(make_model(), batches, settings, run_dir=tmp_path).losses == whole.losses
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_finished_run_is_not_run_again(tmp_path, batches, make_model, settings):
    first = train(make_model(), batches, settings, run_dir=tmp_path)
    again = train(make_model(seed=5), StopAt(batches, 1, die), settings, run_dir=tmp_path)
    assert again.result == first.result and again.losses == first.losses
    for mine, theirs in zip(again.model.parameters(), first.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_another_configuration_in_the_folder_is_refused(tmp_path, batches, make_model, settings):
    train(make_model(), batches, settings, run_dir=tmp_path)
    other = settings.model_copy(update={"learning_rate": 0.5})
    with pytest.raises(KitError, match=r"learning_rate is 0.001 there and 0.5 here"):
        train(make_model(), batches, other, run_dir=tmp_path)


def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_checkpoint(tmp_path, batches, make_model, settings):
    model = make_model()

    def poison():
        with torch.no_grad():
            model.final_norm.weight.fill_(torch.nan)

    with pytest.raises(KitError, match="not finite at step 7"):
        train(model, StopAt(batches, 7, poison), settings, run_dir=tmp_path)
    assert latest_checkpoint(tmp_path / "checkpoint").name == "step-4"
    whole = train(make_model(), batches, settings)
    assert train(make_model(), batches, settings, run_dir=tmp_path).losses == whole.losses


def test_two_runs_in_one_directory(tmp_path, batches, make_model, settings):
    def second():
        with pytest.raises(KitError, match="Another process is training"):
            train(make_model(), batches, settings, run_dir=tmp_path)

    train(make_model(), StopAt(batches, 2, second), settings, run_dir=tmp_path)


def test_a_target_perplexity_stops_the_run_for_good(tmp_path, batches, make_model, settings):
    scores = iter([90.0, 30.0])
    target = settings.model_copy(update={"target_perplexity": 40.0})
    result = train(make_model(), batches, target, run_dir=tmp_path, evaluate=lambda model: {"perplexity": next(scores)})
    assert result.result["stopped"] == "target_perplexity" and result.result["steps"] == 8
    (tmp_path / "result.json").unlink()  # killed between the last checkpoint and the result
    again = train(make_model(), StopAt(batches, 9, die), target, run_dir=tmp_path, evaluate=evaluate)
    assert again.result["steps"] == 8


def test_samples_loggers_and_the_dropout_schedule(batches, make_model, settings):
    seen = []
    schedule = {"dropout_start": 0.3, "dropout_end": 0.0, "dropout_steps": 4, "sample_every": 6}
    train(
        make_model(), batches, settings.model_copy(update=schedule), sample=lambda model: "once", loggers=[seen.append]
    )
    assert [row["step"] for row in seen if row.get("sample") == "once"] == [6, 12]
    assert [round(row["dropout"], 6) for row in seen[:5]] == [0.3, 0.2, 0.1, 0.0, 0.0]


@pytest.fixture
def compiling(monkeypatch):
    if cannot_compile("cpu", Path(torch.__file__).parent) is not None:
        pytest.skip("cannot compile here")
    # What torch compiled for AVX-512 gives NaN in a process that is limited to AVX2: a cache for each.
    cache = f"stlm-compiled-{getpass.getuser()}-{torch.backends.cpu.get_cpu_capability()}"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / cache))


@pytest.mark.usefixtures("compiling")
def test_compiled_and_plain_steps_agree(batches, make_model, settings):
    short = settings.model_copy(update={"steps": 3, "dropout_start": 0.0, "dropout_end": 0.0})
    plain = train(make_model(), batches, short)
    compiled = train(make_model(), batches, short.model_copy(update={"compile": True}))
    assert compiled.losses == pytest.approx(plain.losses, abs=1e-4)


@pytest.mark.usefixtures("compiling")
def test_compiled_steps_of_layers_that_share_weights_agree_and_resume(tmp_path, batches, make_model, settings):
    shared = {"n_layers": 3, "sharing": "feed-forward", "lora_rank": 2, "factor_rank": 3, "layer_index": True}
    short = settings.model_copy(update={"steps": 4, "checkpoint_every": 2, "dropout_start": 0.0, "dropout_end": 0.0})
    plain = train(make_model(**shared), batches, short)
    short = short.model_copy(update={"compile": True})
    whole = train(make_model(**shared), batches, short)
    assert whole.losses == pytest.approx(plain.losses, abs=1e-4)
    with pytest.raises(Killed):
        train(make_model(**shared), StopAt(batches, 4, die), short, run_dir=tmp_path)
    resumed = train(make_model(seed=99, **shared), batches, short, run_dir=tmp_path)
    assert resumed.losses == whole.losses
    assert all(map(torch.equal, resumed.model.parameters(), whole.model.parameters()))


def test_what_keeps_torch_from_compiling_is_one_sentence(monkeypatch):
    assert "holds a space" in cannot_compile("cpu", Path("/home/a b/torch"))
    assert cannot_compile("cuda", Path("/home/a b/torch")) is None
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(KitError, match=r"needs a C\+\+ compiler|holds a space"):
        compiled(len, "cpu")


@pytest.mark.parametrize("lost", ["checkpoint", "metrics", "rows", "bytes"])
def test_what_is_lost_from_a_run_is_named_and_the_rest_stays(tmp_path, batches, make_model, settings, lost):
    train(make_model(), batches, settings, run_dir=tmp_path)
    metrics = tmp_path / "metrics.jsonl"
    if lost == "checkpoint":
        shutil.rmtree(tmp_path / "checkpoint")
    elif lost == "metrics":
        metrics.unlink()
    else:
        metrics.write_bytes(metrics.read_bytes()[:500] if lost == "rows" else b"\xff\xfe[1]\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(KitError, match=r"checkpoint is gone|metrics.jsonl is missing or damaged before step 12"):
        train(make_model(), batches, settings, run_dir=tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
