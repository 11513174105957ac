"""Trackers beside metrics.jsonl: what they hold is read back from their own files, and their failures are real ones."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from stlm_kit import Interrupted, KitError, UsageError, cli, run_settings, tracking
from stlm_kit.train_from_text import train_from_text

wandb = pytest.importorskip("wandb")
SMALL = {"n_layers": 1, "d_model": 16, "n_heads": 2, "d_ff": 16}
TENSORBOARD = pytest.mark.skipif("not __import__('importlib').util.find_spec('tensorboard')", reason="no tensorboard")


@pytest.fixture(scope="module")
def verses(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "verses.txt"
    path.write_text("\n\n".join(f"Verse {n}: the {'quick ' * (n % 7)}fox number {n} jumps." for n in range(60)))
    return path


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """W&B keeps all in files, and nothing of the reader's own trackers. W&B reads its variables once a service."""
    for name in list(os.environ):
        if name.startswith(("WANDB", "STLM_WANDB", "STLM_TENSORBOARD")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB__SERVICE_WAIT", "150")  # seconds that its service may take to start on a busy machine
    yield
    wandb.teardown()


@pytest.fixture
def small(verses):
    """Settings of a run of some seconds at most."""

    def settings(**changes):
        values = {"preset": "laptop-gpt2", "corpus": str(verses), "tokenizer": "bytes", "overrides": SMALL}
        return run_settings(**values | {"steps": 6, "batch_size": 2, "context_length": 16, "eval_every": 3} | changes)

    return settings


def rows(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """{name: (step, value) pairs} of a folder, as TensorBoard itself reads it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    return {name: [(each.step, each.value) for each in found.Scalars(name)] for name in found.Tags()["scalars"]}


def history(folder: Path) -> list[dict]:
    """The rows in the .wandb file of one process: LevelDB's log format, its records W&B's own messages."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob("*.wandb")
    data, at, whole, found = file.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if (room := 32768 - at % 32768) < 7:  # the rest of a block that no header fits into
            at += room
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole, at = whole + data[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):  # whole, or its last part
            record, whole = Record.FromString(whole), b""
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                found.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return found


def processes(run_dir: Path) -> list[Path]:
    """W&B's folders of a run's processes, in their order; its service, which may still be writing, is ended."""
    wandb.teardown()
    return sorted((run_dir / "wandb").glob("offline-run-*"))


def wait_for(condition, forks, seconds: float = 180):
    """Until the condition holds; what the program said where it never does."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, (forks.running, forks.out.read_text()[-500:], forks.error.read_text()[-2000:])
        time.sleep(0.02)
    return found


@TENSORBOARD
def test_both_hold_what_metrics_jsonl_holds_and_change_no_number(small, tmp_path, capfd):
    plain = train_from_text(small())
    tracked = train_from_text(small(), tmp_path / "run", wandb="test", tensorboard=True)
    assert tracked.losses == plain.losses  # bit for bit
    kept = rows(tmp_path / "run")
    logged = events(tmp_path / "run" / "tensorboard")
    assert [step for step, _ in logged["loss"]] == [1, 2, 3, 4, 5, 6]
    assert [loss for _, loss in logged["loss"]] == pytest.approx([row["loss"] for row in kept])  # float32 there
    assert [step for step, _ in logged["validation/perplexity"]] == [3, 6]
    (folder,) = processes(tmp_path / "run")
    sent = history(folder)
    assert [(row["_step"], row["loss"]) for row in sent] == [(row["step"], row["loss"]) for row in kept]
    assert sent[2]["validation/bits_per_byte"] == kept[2]["validation"]["bits_per_byte"]
    assert "stlm:" not in capfd.readouterr().err
    train_from_text(small(), tmp_path / "run", wandb="test", tensorboard=True)  # finished: nothing to track
    assert len(processes(tmp_path / "run")) == 1 and events(tmp_path / "run" / "tensorboard") == logged


class Stop:
    """A logger that asks for a stop at a step, as a batch system does."""

    def __init__(self, step: int):
        self.step = step

    def __call__(self, row: dict) -> None:
        if row["step"] == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@TENSORBOARD
def test_a_run_that_goes_on_is_logged_once(small, tmp_path):
    """Stopped after step 5; its state of step 4 restored, as after a kill: step 5 is taken, and logged, again."""
    settings, run_dir = small(steps=8, checkpoint_every=2), tmp_path / "run"
    with pytest.raises(Interrupted):
        train_from_text(settings, run_dir, wandb="test", tensorboard=True, loggers=[Stop(4)])
    before = shutil.copytree(run_dir / "checkpoint", tmp_path / "checkpoint")
    with pytest.raises(Interrupted):
        train_from_text(settings, run_dir, wandb="test", tensorboard=True, loggers=[Stop(5)])
    shutil.rmtree(run_dir / "checkpoint")
    shutil.copytree(before, run_dir / "checkpoint")
    trained = train_from_text(settings, run_dir, wandb="test", tensorboard=True)
    assert trained.losses == train_from_text(settings).losses
    logged = events(run_dir / "tensorboard")
    assert [step for step, _ in logged["loss"]] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [loss for _, loss in logged["loss"]] == pytest.approx(trained.losses)
    last = history(processes(run_dir)[-1])  # the last of three processes' folders holds the whole run
    assert [(row["_step"], row["loss"]) for row in last] == list(enumerate(trained.losses, start=1))
    identity = (run_dir / "wandb" / "run-id").read_text()
    assert len(processes(run_dir)) == 3 and all(f"-{identity}" in folder.name for folder in processes(run_dir))


@TENSORBOARD
def test_one_that_comes_later_gets_what_came_before(small, tmp_path):
    with pytest.raises(Interrupted):
        train_from_text(small(checkpoint_every=2), tmp_path / "run", loggers=[Stop(4)])
    train_from_text(small(checkpoint_every=2), tmp_path / "run", tensorboard=tmp_path / "board")
    assert [step for step, _ in events(tmp_path / "board")["loss"]] == [1, 2, 3, 4, 5, 6]
    assert not (tmp_path / "run" / "tensorboard").exists()


@TENSORBOARD
def test_the_environment_asks_for_them_and_no_run_becomes_another(small, tmp_path, monkeypatch):
    train_from_text(small(steps=2), tmp_path / "a study" / "one")
    config = (tmp_path / "a study" / "one" / "config.json").read_text()
    monkeypatch.setenv("STLM_WANDB", "test")
    monkeypatch.setenv("STLM_TENSORBOARD", str(tmp_path / "board"))
    for name in ("two", "three"):
        train_from_text(small(steps=2), tmp_path / "a study" / name)
        assert (tmp_path / "a study" / name / "config.json").read_text() == config
        assert len(events(tmp_path / "board" / "a study" / name)["loss"]) == 2  # a folder a run
        assert len(history(*processes(tmp_path / "a study" / name))) == 2
    monkeypatch.setenv("STLM_TENSORBOARD", "1")
    monkeypatch.setenv("STLM_WANDB", "0")
    train_from_text(small(steps=2), tmp_path / "four")
    assert len(events(tmp_path / "four" / "tensorboard")["loss"]) == 2 and not processes(tmp_path / "four")
    monkeypatch.chdir(tmp_path)
    here = set(tmp_path.iterdir())
    train_from_text(small(steps=2))  # without a folder nothing touches the disk
    assert set(tmp_path.iterdir()) == here
    with pytest.raises(UsageError, match="name one"):
        train_from_text(small(), tensorboard=True)


def test_what_is_not_installed_or_unknown_is_told_before_training(small, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"no tracker 'wandbb'; .*Did you mean 'wandb'"):
        train_from_text(small(), tmp_path / "run", wandbb="test")
    (tmp_path / "surely_not_installed").mkdir()  # as ./wandb is one after a run of W&B's
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(tracking.WandB, "package", "surely_not_installed")
    with pytest.raises(KitError, match="`pip install surely_not_installed`, or train without it"):
        train_from_text(small(), tmp_path / "run", wandb="test")
    monkeypatch.setenv("STLM_WANDB", "test")
    with pytest.raises(KitError, match="is not installed"):
        tracking.ready_for_kernels()
    assert not (tmp_path / "run").exists()


def sentence(err: str, title: str) -> str:
    """The one line that says that a tracker failed."""
    (line,) = [line for line in err.splitlines() if line.startswith("stlm: ")]
    assert line.startswith(f"stlm: {title} failed ") and line.endswith("; metrics.jsonl holds every row.")
    return line


@TENSORBOARD
def test_a_folder_that_is_a_file_costs_a_sentence(small, tmp_path, capfd):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("a file")
    trained = train_from_text(small(), tmp_path / "run", tensorboard=True)
    assert trained.losses == train_from_text(small()).losses and len(rows(tmp_path / "run")) == 6
    assert "from step 1 on ([Errno 17] File exists" in sentence(capfd.readouterr().err, "TensorBoard")


def test_where_it_is_switched_off_there_is_no_sentence(small, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    train_from_text(small(), tmp_path / "run", wandb="test")
    assert "stlm:" not in capfd.readouterr().err and not processes(tmp_path / "run")


def test_without_a_login_it_costs_a_sentence(small, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert len(train_from_text(small(), tmp_path / "run", wandb="test").losses) == 6
    assert len(rows(tmp_path / "run")) == 6
    assert "API key" in sentence(capfd.readouterr().err, "Weights & Biases")


def test_without_a_network_it_costs_a_sentence(small, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # where nobody answers
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")
    assert len(train_from_text(small(), tmp_path / "run", wandb="test").losses) == 6
    assert len(rows(tmp_path / "run")) == 6
    assert "from step 1 on" in sentence(capfd.readouterr().err, "Weights & Biases")


@pytest.fixture
def tiny_disk(tmp_path):
    """A folder on a disk of 64 KiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root can mount a disk of its own")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@TENSORBOARD
def test_its_disk_is_full(small, tmp_path, tiny_disk, capfd):
    settings = small(steps=400, eval_every=0)
    train_from_text(settings, tmp_path / "run", tensorboard=tiny_disk)
    assert len(rows(tmp_path / "run")) == 400
    said = sentence(capfd.readouterr().err, "TensorBoard")
    assert "No space left on device" in said
    reached = [step for step, _ in events(tiny_disk)["loss"]]
    assert f"from step {len(reached) + 1} on" in said and reached == list(range(1, len(reached) + 1))


def test_the_disk_of_weights_and_biases_is_full(small, tmp_path, tiny_disk, capfd):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "wandb").symlink_to(tiny_disk)
    train_from_text(small(steps=300, eval_every=0), tmp_path / "run", wandb="test")
    assert len(rows(tmp_path / "run")) == 300
    assert "full" in sentence(capfd.readouterr().err, "Weights & Biases")


def children(pid: int, name: str) -> list[int]:
    """The child processes of a process that run a program of this name."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:  # it has gone
            continue
        if name in text and int(text.rsplit(")", 1)[1].split()[1]) == pid:
            found.append(int(stat.parent.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the process in /proc")
@TENSORBOARD
def test_its_process_is_killed_and_then_the_run(verses, tmp_path, forks):
    """`kill -9` of W&B's service: the run ends as if nothing were; then of a run: it goes on, and is logged once."""
    model = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    command = ["train", "--preset", "laptop-gpt2", "--corpus", verses, "--tokenizer", "bytes", "--batch-size", "2"]
    command += [*model, "--context-length", "16", "--steps", "1000", "--json", "--wandb", "test", "--tensorboard"]
    command += ["--set", "checkpoint_every=20", "--run-dir"]

    def begun(name: str) -> bool:
        path = tmp_path / name / "metrics.jsonl"
        return path.exists() and path.read_text().count("\n") > 30

    forks.start(*command, tmp_path / "one")
    wait_for(lambda: begun("one") and children(forks._pid, "wandb-core"), forks)
    for pid in children(forks._pid, "wandb-core"):
        os.kill(pid, signal.SIGKILL)
    assert forks.wait() == 0
    err = forks.error.read_text()
    assert "from step " in sentence(err, "Weights & Biases") and "Traceback" not in err
    assert [row["step"] for row in rows(tmp_path / "one")] == list(range(1, 1001))

    forks.start(*command, tmp_path / "two")
    wait_for(lambda: begun("two"), forks)
    forks.send(signal.SIGKILL)
    assert forks.wait() == -signal.SIGKILL
    assert forks.run(*command, tmp_path / "two") == 0
    assert "stlm:" not in forks.error.read_text()
    losses = [row["loss"] for row in rows(tmp_path / "two")]
    assert losses == [row["loss"] for row in rows(tmp_path / "one")]
    logged = events(tmp_path / "two" / "tensorboard")["loss"]
    assert [step for step, _ in logged] == list(range(1, 1001)) and len(
        list((tmp_path / "two").glob("tensorboard/*"))
    ) == 2
    assert [loss for _, loss in logged] == pytest.approx(losses)
    sent = history(processes(tmp_path / "two")[-1])
    assert Counter(row["_step"] for row in sent) == Counter(range(1, 1001))


def test_the_options_of_train(verses, tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    said = capsys.readouterr().out
    assert all(f"--{name}" in said for name in tracking.TRACKERS)
