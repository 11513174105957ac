"""Checkpoints: whole or absent, checked when read, never unpickled."""

import pickle
import shlex
import shutil
import subprocess
import sys

import pytest
import torch

from stlm_kit import KitError, TrainingSettings
from stlm_kit.training import train
from stlm_kit.training.checkpoint import latest_checkpoint, load_state, load_weights, restore, save_checkpoint
from stlm_kit.training.optimizer import build_optimizer


@pytest.fixture
def saved(tmp_path, batches, make_model, settings):
    """A folder with the checkpoint of a finished run, and the model it belongs to."""
    result = train(make_model(), batches, settings, run_dir=tmp_path)
    return latest_checkpoint(tmp_path / "checkpoint"), result.model


def test_only_the_latest_is_kept_and_nothing_is_pickled(saved):
    checkpoint, _ = saved
    assert [path.name for path in sorted(checkpoint.parent.iterdir())] == ["latest", "step-12"]
    assert {path.suffix for path in checkpoint.iterdir()} == {".safetensors", ".json"}


def test_a_tied_matrix_is_stored_once_and_stays_tied(saved, make_model):
    checkpoint, model = saved
    other = make_model(seed=3)
    load_weights(other, checkpoint / "model.safetensors")
    assert other.head.weight is other.embedding.weight
    assert torch.equal(other.head.weight, model.head.weight)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_a_damaged_file_is_named(saved, name, damage):
    checkpoint, _ = saved
    path = checkpoint / name
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        path.unlink()
    with pytest.raises(KitError, match=f"{name} is damaged"):
        load_state(checkpoint)


def test_a_resume_from_a_damaged_checkpoint_is_refused_and_nothing_is_lost(tmp_path, batches, make_model, settings):
    train(make_model(), batches, settings, run_dir=tmp_path)
    (tmp_path / "result.json").unlink()
    weights = latest_checkpoint(tmp_path / "checkpoint") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    metrics = (tmp_path / "metrics.jsonl").read_text()
    with pytest.raises(KitError, match="damaged"):
        train(make_model(), batches, settings, run_dir=tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == metrics


def test_weights_of_another_configuration(saved, make_model):
    checkpoint, _ = saved
    from stlm_kit.model.decoder import Decoder

    wider = Decoder(make_model().config.model_copy(update={"d_ff": 48}))
    with pytest.raises(KitError, match="another configuration"):
        load_weights(wider, checkpoint / "model.safetensors")


def test_a_pickle_is_refused_and_never_executed(tmp_path, make_model):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    for name in ("model.pt", "model.safetensors"):  # the second wears a false name
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(KitError, match=r"pickle|damaged"):
            load_weights(make_model(), tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_a_folder_left_half_written_is_not_a_checkpoint(saved):
    checkpoint, _ = saved
    folder = checkpoint.parent
    shutil.copytree(checkpoint, folder / "step-16.part")
    assert latest_checkpoint(folder) == checkpoint
    (folder / "latest").unlink()  # killed before the first `latest` was written
    assert latest_checkpoint(folder) == checkpoint


def test_saving_again_after_a_kill_before_latest_was_replaced(tmp_path, make_model):
    model = make_model()
    optimizer = build_optimizer(model, TrainingSettings())
    for step in (1, 2):
        save_checkpoint(tmp_path, step, model, optimizer, {})
    (tmp_path / "latest").write_text("step-1")
    save_checkpoint(tmp_path, 2, model, optimizer, {})
    assert latest_checkpoint(tmp_path).name == "step-2"
    assert restore(latest_checkpoint(tmp_path), model, optimizer)["step"] == 2


FULL_DISK = """
import sys
from pathlib import Path
import torch
from stlm_kit import KitError, TrainingSettings
from stlm_kit.presets import preset
from stlm_kit.model.decoder import Decoder
from stlm_kit.training.checkpoint import latest_checkpoint, load_state, save_checkpoint
from stlm_kit.training.optimizer import build_optimizer
small = preset("laptop-llama", vocab_size=300, n_layers=1, d_model=32, d_ff=32)
folder = Path(sys.argv[1])
model = Decoder(small)
optimizer = build_optimizer(model, TrainingSettings())
save_checkpoint(folder, 1, model, optimizer, {})
large = Decoder(small.model_copy(update={"d_model": 256}))
try:
    save_checkpoint(folder, 2, large, optimizer, {})
except KitError as error:
    assert "Could not save the checkpoint of step 2" in str(error) and "free some space" in str(error), error
else:
    raise SystemExit("the disk was not full")
assert load_state(latest_checkpoint(folder))["step"] == 1
assert [path.name for path in sorted(folder.iterdir())] == ["latest", "step-1"]
"""


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path):
    """On a real file system of 200 KB where the machine allows a private mount; else under a limit on file size."""
    script = tmp_path / "full_disk.py"
    script.write_text(FULL_DISK)
    folder = tmp_path / "disk"
    folder.mkdir()
    python = shlex.join([sys.executable, str(script), str(folder)])
    mount = shlex.join(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)])
    alone = ["unshare", "-rm", "sh", "-c"]  # a mount that only this command sees
    private = shutil.which("unshare") and subprocess.run([*alone, mount], capture_output=True).returncode == 0
    command = [*alone, f"{mount} && {python}"] if private else ["sh", "-c", f"ulimit -f 200; {python}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("content", ["[]", '{"sha256": {}}', '{"sha256": [1]}', '{"step": 1', ""])
def test_a_foreign_state_file_is_named(saved, content):
    checkpoint, _ = saved
    (checkpoint / "state.json").write_text(content)
    with pytest.raises(KitError, match=r"state.json is damaged"):
        load_state(checkpoint)


@pytest.mark.parametrize("content", [b"", b"step-9", b"\xff\xfe"])
def test_a_damaged_latest_falls_back_on_the_whole_checkpoint(saved, content):
    checkpoint, _ = saved
    (checkpoint.parent / "latest").write_bytes(content)
    assert latest_checkpoint(checkpoint.parent) == checkpoint
