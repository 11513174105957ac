"""Starting from a run, and training a named part: optimizer, clipping, checkpoints and predictions see that part."""

import json

import pytest
import torch

import stlm_kit as kit
from stlm_kit import KitError, UsageError, cli, predict_peak
from stlm_kit.memory import measure_peak
from stlm_kit.training.checkpoint import latest_checkpoint, read_tensors
from stlm_kit.training.trainable import train_only

VERSE = "It is the same old song, a little further on.\n\n"


def tensors_of(folder, name):
    return read_tensors(latest_checkpoint(folder / "checkpoint") / f"{name}.safetensors")


@pytest.mark.parametrize("names", [["norms"], ["blocks.1.*", "head"], ["attention"]])
def test_only_what_is_named_moves_and_is_kept(names, make_model, batches, settings, tmp_path):
    model, before = make_model(tied_head=False), make_model(tied_head=False)
    wanted = {name for name, p in _frozen(make_model(tied_head=False), names).named_parameters() if p.requires_grad}
    run = settings.model_copy(update={"trainable": names, "weight_decay": 0.5})
    kit.train(model, batches, run, run_dir=tmp_path, progress=False)
    moved = {
        name
        for (name, p), q in zip(model.named_parameters(), before.parameters(), strict=True)
        if not torch.equal(p, q)
    }
    assert moved == wanted and 0 < len(wanted) < len(list(model.parameters()))
    assert set(tensors_of(tmp_path, "model")) == wanted
    assert {key.rsplit("/", 1)[0] for key in tensors_of(tmp_path, "optimizer")} == wanted
    still = read_tensors(tmp_path / "checkpoint" / "frozen.safetensors")
    assert set(still) == {name for name, _ in model.named_parameters()} - wanted


def _frozen(model, names):
    train_only(model, names)
    return model


def test_a_killed_run_of_a_subset_goes_on_exactly(make_model, batches, settings, tmp_path):
    from test_losses_handed_in import Killed, KilledAt

    run = settings.model_copy(update={"trainable": ["norms", "biases", "feed_forward"][::2]})
    expected = kit.train(make_model(), batches, run, progress=False)
    with pytest.raises(Killed):
        kit.train(make_model(), KilledAt(batches, 7), run, run_dir=tmp_path, progress=False)
    resumed = kit.train(make_model(), batches, run, run_dir=tmp_path, progress=False)
    assert resumed.losses == expected.losses
    assert [r["gradient_norm"] for r in resumed.metrics] == [r["gradient_norm"] for r in expected.metrics]


def test_a_name_that_covers_nothing_is_one_sentence(make_model, batches, settings):
    run = settings.model_copy(update={"trainable": ["blocks.7.*"]})
    with pytest.raises(UsageError, match=r"'blocks.7.\*' covers no parameter"):
        kit.train(make_model(), batches, run, progress=False)
    with pytest.raises(UsageError, match="Did you mean 'norms'"):
        predict_peak("laptop-llama", "fp32", 2, 16, trainable=["norm"])


def test_a_prediction_sees_the_subset():
    sizes = ("laptop-llama", "fp32+chunked", 8, 64)
    measured = measure_peak(*sizes, repeats=0, span="step", trainable=["norms"])
    predicted = predict_peak(*sizes, semantics="cpu", span="step", trainable=["norms"])
    assert predicted.peak_allocated_mib == pytest.approx(measured.peak_allocated_mib, rel=0.01)
    whole = predict_peak(*sizes, semantics="cpu", span="step")
    assert predicted.by_category["optimizer"] < 0.02 * whole.by_category["optimizer"]
    gradients = kit.count_parameters(kit.Decoder(kit.preset("laptop-llama"))) * 4 / 2**20
    assert whole.after_backward_mib - predicted.after_backward_mib > 2.9 * gradients  # and two moments of AdamW's


@pytest.fixture
def started(tmp_path, capsys):
    """A run of four steps, and the command of another: (folder, command(name, options))."""
    (tmp_path / "verse.txt").write_text(VERSE * 40)

    def command(name, *options):
        return [
            "train", "--preset", "laptop-gpt2", "--corpus", str(tmp_path / "verse.txt"), "--steps", "4",
            "--batch-size", "2", "--context-length", "16", "--json", "--run-dir", str(tmp_path / name),
            "--set", "n_layers=2", "--set", "d_model=32", "--set", "d_ff=48", *options,
        ]  # fmt: skip

    assert cli.main(command("first")) == 0
    capsys.readouterr()
    return tmp_path / "first", command


@pytest.mark.parametrize("layout", ["run", "hf"])
def test_a_run_starts_from_another(started, layout, tmp_path, capsys):
    folder, command = started
    place = folder
    if layout == "hf":
        place = tmp_path / "exported"
        assert cli.main(["export", "--model", str(folder), "--to", "hf", "--out", str(place)]) == 0
    options = ["--set", f"init_from={place}", "--set", "trainable=[norms]"]
    assert cli.main(command("second", *options)) == 0
    capsys.readouterr()
    first, second = kit.load_run(folder).model, kit.load_run(tmp_path / "second").model
    for (name, one), other in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other) != ("norm" in name), name
    said = json.loads((tmp_path / "second" / "config.json").read_text())
    assert said["run"]["init_from"] == str(place) and len(said["content"]["init_from"]) == 64
    text = tmp_path / "text.txt"
    text.write_text(VERSE)
    assert cli.main(["evaluate", "--model", str(tmp_path / "second"), "--text", str(text), "--json"]) == 0


def test_what_cannot_be_started_from_is_one_sentence(started, tmp_path, capsys):
    folder, command = started
    assert cli.main(command("second", "--set", f"init_from={tmp_path / 'nowhere'}")) == 1
    assert "no folder" in capsys.readouterr().err
    assert cli.main(command("third", "--set", f"init_from={folder}", "--set", "d_ff=64")) == 1
    assert "another configuration" in capsys.readouterr().err
    (latest_checkpoint(folder / "checkpoint") / "model.safetensors").write_bytes(b"{}")
    assert cli.main(command("fourth", "--set", f"init_from={folder}")) == 1
    assert "damaged" in capsys.readouterr().err
    assert not (tmp_path / "second" / "metrics.jsonl").exists()


def test_a_run_whose_frozen_weights_are_gone_or_changed_is_refused(make_model, batches, settings, tmp_path):
    run = settings.model_copy(update={"trainable": ["norms"]})
    kit.train(make_model(), batches, run, run_dir=tmp_path, progress=False)
    path = tmp_path / "checkpoint" / "frozen.safetensors"
    whole = path.read_bytes()
    for content in (None, whole[:-1] + bytes([whole[-1] ^ 1])):
        path.unlink(missing_ok=True)
        if content:
            path.write_bytes(content)
        with pytest.raises(KitError, match=r"frozen.safetensors is damaged"):
            kit.train(make_model(), batches, run, run_dir=tmp_path, progress=False)
