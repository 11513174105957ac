"""One block used many times: it trains, resumes, is predicted, and is counted, saved and wrapped once."""

import json

import pytest
import torch
from torch import nn

import stlm_kit as kit
from stlm_kit import cli, predict_peak
from stlm_kit.memory import measure_peak
from stlm_kit.model import Decoder, count_parameters
from stlm_kit.presets import preset
from stlm_kit.training.checkpoint import latest_checkpoint, read_tensors
from stlm_kit.training.optimizer import build_optimizer
from stlm_kit.training.recipe import Recipe
from stlm_kit.training.settings import TrainingSettings
from stlm_kit.training.step import Step

TWELVE = {"n_layers": 12, "layer_order": (0,) * 12, "d_model": 32, "n_heads": 4, "n_kv_heads": None, "d_ff": 48}


def test_twelve_uses_of_one_block_through_the_command_line(tmp_path, capsys):
    (tmp_path / "verse.txt").write_text("Once more the same, and once more, and again.\n\n" * 40)

    def command(steps):
        settings = [f"--set={name}={list(value) if name == 'layer_order' else value}" for name, value in TWELVE.items()]
        return [
            "train", "--corpus", str(tmp_path / "verse.txt"), "--tokenizer", "bytes", "--steps", str(steps),
            "--batch-size", "2", "--context-length", "16", "--recipe", "fp32+checkpoint", "--json",
            "--run-dir", str(tmp_path / "run"), "--set", "checkpoint_every=2", *settings,
        ]  # fmt: skip

    assert cli.main(command(5)) == 0
    first = json.loads(capsys.readouterr().out)
    run = kit.load_run(tmp_path / "run")
    assert len(run.model.blocks) == 1 and run.model.config.n_layers == 12 and first["steps"] == 5
    saved = read_tensors(latest_checkpoint(tmp_path / "run" / "checkpoint") / "model.safetensors")
    assert sum(tensor.numel() for tensor in saved.values()) == count_parameters(run.model)
    assert cli.main(command(5)) == 0 and json.loads(capsys.readouterr().out)["loss"] == first["loss"]


@pytest.mark.parametrize("how", ["none", "layer", "selective", "tiled"])
def test_gradients_are_the_sum_over_its_uses(how, batches, make_model):
    """By layer_order or by a ModuleList that names one block several times: the same loss, gradients and update."""
    shared = make_model(n_layers=3, layer_order=(0, 0, 0), dropout=0.0).double()
    listed = make_model(n_layers=1, dropout=0.0).double()
    listed.load_state_dict(shared.state_dict())
    listed.blocks = nn.ModuleList([listed.blocks[0]] * 3)
    found = []
    for model, checkpointing in ((shared, "none"), (shared, how), (listed, how)):
        step = Step(model, build_optimizer(model, TrainingSettings()), Recipe(checkpointing=checkpointing), clip=0.0)
        found.append((float(step.compute(batches[0])), [p.grad.clone() for p in model.parameters()]))
    for loss, gradients in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-12)
        assert all(torch.allclose(a, b, atol=1e-13) for a, b in zip(gradients, found[0][1], strict=True))


@pytest.mark.parametrize("step", [3, 7])
def test_it_resumes_exactly(step, batches, make_model, settings, tmp_path):
    from test_losses_handed_in import Killed, KilledAt

    changes = {"n_layers": 12, "layer_order": (0,) * 12}
    run = settings.model_copy(update={"recipe": "fp32+checkpoint"})
    expected = kit.train(make_model(**changes), batches, run, progress=False)
    with pytest.raises(Killed):
        kit.train(make_model(**changes), KilledAt(batches, step), run, run_dir=tmp_path, progress=False)
    assert kit.train(make_model(**changes), batches, run, run_dir=tmp_path, progress=False).losses == expected.losses


PATTERNS = ("feed-forward", "attention", "matrices", "all", "pairs", "looped")
EXTRAS = {"n_layers": 5, "layer_index": True, "lora_rank": 2, "factor_rank": 4}


@pytest.mark.parametrize("extras", [{"n_layers": 5}, EXTRAS], ids=["plain", "index+lora+factors"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_resumes_exactly_after_a_kill(pattern, extras, batches, make_model, settings, tmp_path):
    from test_losses_handed_in import Killed, KilledAt

    changes = {"sharing": pattern, **extras}
    run = settings.model_copy(update={"recipe": "fp32+checkpoint"})
    expected = make_model(**changes)
    losses = kit.train(expected, batches, run, progress=False).losses
    with pytest.raises(Killed):
        kit.train(make_model(**changes), KilledAt(batches, 7), run, run_dir=tmp_path, progress=False)
    resumed = make_model(**changes)
    assert kit.train(resumed, batches, run, run_dir=tmp_path, progress=False).losses == losses
    for (name, mine), (_, own) in zip(resumed.named_parameters(), expected.named_parameters(), strict=True):
        assert torch.equal(mine, own), name
    saved = read_tensors(latest_checkpoint(tmp_path / "checkpoint") / "model.safetensors")
    assert sum(tensor.numel() for tensor in saved.values()) == count_parameters(resumed)


@pytest.mark.parametrize("how", ["layer", "selective", "tiled"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_checkpointing_changes_no_gradient_of_a_shared_model(pattern, how, batches, make_model):
    found = []
    for each in ("none", how):
        model = make_model(sharing=pattern, dropout=0.0, **EXTRAS).double()
        step = Step(model, build_optimizer(model, TrainingSettings()), Recipe(checkpointing=each), clip=0.0)
        found.append((float(step.compute(batches[0])), [p.grad.clone() for p in model.parameters()]))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-12)
    assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-13) for a, b in zip(found[1][1], found[0][1], strict=True))


@pytest.mark.parametrize("recipe", ["fp32", "fp32+checkpoint"])
def test_it_is_predicted_as_it_is_measured(recipe):
    config = preset("laptop-llama", **{**TWELVE, "vocab_size": 300})
    sizes = (config, recipe, 8, 64)
    measured = measure_peak(*sizes, repeats=0).peak_allocated_mib
    assert predict_peak(*sizes, semantics="cpu").peak_allocated_mib == pytest.approx(measured, rel=0.01)


def test_layers_can_be_left_out_between_steps(batches, make_model):
    """The order is a plain attribute: what LayerDrop sets at each step."""
    model = make_model(n_layers=3, dropout=0.0).eval()
    ids = batches[0].ids
    model.order = (0, 2)
    by_hand = make_model(n_layers=3, dropout=0.0).eval()
    by_hand.blocks = nn.ModuleList([by_hand.blocks[0], by_hand.blocks[2]])
    assert torch.equal(model(ids), by_hand(ids)) and len(model.new_cache().entries) == 2


def test_what_writes_into_the_stream_starts_smaller_with_every_use():
    one = Decoder(preset("laptop-llama", n_layers=16, layer_order=(0,) * 16)).blocks[0].attention
    assert float(one.output.weight.std() / one.query.weight.std()) == pytest.approx(32**-0.5, rel=0.1)
