"""A kind of model that the kit has never seen goes through the same commands as the decoder."""

import json
import math

import pytest
import torch
from two_bytes import PRESET, TwoBytes, register

import stlm_kit as kit
from stlm_kit import cli
from stlm_kit.config import DecoderConfig, config_from
from stlm_kit.data.batches import Batch
from stlm_kit.evaluation import influence_matrix
from stlm_kit.memory import measure_peak, predict_peak
from stlm_kit.model import Decoder, build_model
from stlm_kit.presets import preset

VERSE = "Nobody knows the way that leads from here to there, and yet we go.\n\n"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Trained for eight steps by `stlm train`: (its folder, what the command said)."""
    register(monkeypatch)
    (tmp_path / "verse.txt").write_text(VERSE * 30)
    folder = tmp_path / "run"
    command = ["train", "--preset", PRESET.name, "--corpus", str(tmp_path / "verse.txt"), "--steps", "8"]
    command += ["--batch-size", "4", "--context-length", "32", "--run-dir", str(folder), "--set", "eval_every=4"]
    assert cli.main([*command, "--json"]) == 0
    return folder, json.loads(capsys.readouterr().out)


def test_it_is_trained_evaluated_generated_from_and_loaded(run, tmp_path, capsys):
    folder, said = run
    assert said["steps"] == 8 and 0 < said["validation"]["bits_per_byte"] < 10
    loaded = kit.load_run(folder)
    assert isinstance(loaded.model, TwoBytes) and loaded.config["model"]["kind"] == "two-bytes"
    text = "Nobody knows, and yet."
    (tmp_path / "text.txt").write_text(text)
    assert cli.main(["evaluate", "--model", str(folder), "--text", str(tmp_path / "text.txt"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    ids = [loaded.tokenizer.end_of_document, *text.encode()]
    with torch.no_grad():
        logits = loaded.model(torch.tensor([ids[:-1]]))[0].log_softmax(-1)
    nats = -sum(float(logits[i, token]) for i, token in enumerate(ids[1:]))
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / len(text), rel=1e-5)
    for length in (0, 1, 45):
        command = ["generate", "--model", str(folder), "--prompt", "Nobody", "--max-new-tokens", str(length)]
        assert cli.main(command) == 0 and capsys.readouterr().out.startswith("Nobody")


def test_a_finished_run_is_not_run_again_and_what_it_cannot_do_is_one_sentence(run, capsys):
    folder, _ = run
    assert cli.main(["export", "--model", str(folder), "--to", "hf"]) == 1
    assert "two-bytes" in capsys.readouterr().err
    model = kit.load_run(folder).model
    for recipe in ("fp32+chunked", "fp32+kept", "fp32+valid"):
        with pytest.raises(kit.UsageError, match="TwoBytes"):
            predict_peak(model.config, recipe, 2, 32)


def test_it_is_predicted_as_it_is_measured(monkeypatch, capsys):
    register(monkeypatch)
    sizes = (PRESET.config, "fp32+checkpoint", 8, 32)
    measured = measure_peak(*sizes, repeats=0).peak_allocated_mib
    assert predict_peak(*sizes, semantics="cpu").peak_allocated_mib == pytest.approx(measured, rel=0.01)
    command = ["predict", "--preset", PRESET.name, "--batch-size", "8", "--set", "d_model=64", "--json"]
    assert cli.main(command) == 0 and json.loads(capsys.readouterr().out)["peak_allocated_mib"] > measured
    assert cli.main(["predict", "--preset", PRESET.name, "--batch-size", "8", "--set", "d_modle=64"]) == 2
    assert "d_model" in capsys.readouterr().err


def test_no_byte_sees_the_one_it_predicts():
    torch.manual_seed(0)
    model = build_model(PRESET.config).eval()
    assert influence_matrix(model, torch.arange(12)).triu(1).max() == 0


def test_a_config_comes_back_as_its_own_kind():
    assert config_from(PRESET.config.model_dump()) == PRESET.config
    old = {name: value for name, value in preset("laptop-llama").model_dump().items() if name != "kind"}
    assert config_from(old) == preset("laptop-llama") and isinstance(build_model(config_from(old)), Decoder)
    with pytest.raises(kit.UsageError, match=r"no kind of model named 'two-byte'.*two-bytes"):
        config_from({"kind": "two-byte"})
    with pytest.raises(kit.UsageError, match="config"):
        build_model("laptop-llama")


def test_parts_that_no_group_names_are_counted_apart():
    table = kit.parameter_table(build_model(PRESET.config))
    assert table["other"] > 0 and sum(table.values()) == kit.count_parameters(build_model(PRESET.config))
    assert "other" not in kit.parameter_table(kit.Decoder(preset("laptop-llama")))


def test_intermediate_streams_and_heads_of_their_own_width():
    torch.manual_seed(0)
    config = preset("laptop-llama", n_layers=3, head_dim=32, qk_norm=True, vocab_size=50)
    model, ids = Decoder(config).eval(), torch.arange(10)[None]
    features, streams = model.features(ids, layers=[0, 2, 3])
    assert torch.equal(features, model.features(ids)) and torch.equal(model.final_norm(streams[2]), features)
    assert torch.equal(streams[0], model.embed(ids)) and not torch.equal(streams[1], streams[2])
    assert model.blocks[0].attention.query.weight.shape == (8 * 32, 128)
    assert model.blocks[0].attention.query_norm.weight.shape == (32,)
    with pytest.raises(kit.UsageError, match="no stream after layer 4; they go from 0 to 3"):
        model.features(ids, layers=[4])


def test_queries_and_keys_are_normed_before_they_are_rotated():
    """Scores of normed queries and keys cannot exceed sqrt(head_dim), whatever the weights (Qwen3)."""
    config = DecoderConfig(**{**preset("laptop-llama", qk_norm=True, vocab_size=50, n_layers=1).model_dump()})
    model = Decoder(config).eval()
    seen = {}

    def attention(q, k, v, **_):
        seen["scores"] = q @ k.repeat_interleave(q.shape[1] // k.shape[1], 1).transpose(-2, -1) / config.head_dim**0.5
        return torch.zeros_like(q)

    model.blocks[0].attention.function = attention
    with torch.no_grad():
        model.blocks[0].attention.query.weight.mul_(1e3)
        model(torch.arange(20)[None])
    assert seen["scores"].abs().max() <= config.head_dim**0.5 * 1.001


@torch.no_grad()
def test_a_score_counts_what_is_real_and_by_its_weight():
    torch.manual_seed(0)
    model = Decoder(preset("laptop-llama", vocab_size=50, n_layers=1)).eval()
    ids, targets = torch.arange(8).view(2, 4), torch.tensor([[1, 2, -100, -100], [5, 6, 7, 8]])
    nats, n_bytes = model.score(Batch(ids, targets, target_bytes=torch.tensor([3, 9])))
    assert n_bytes.tolist() == [3, 9] and nats.shape == (2,)
    weighted, _ = model.score(Batch(ids, targets, weights=torch.tensor([[1.0, 0, 1, 1], [2, 2, 2, 2]])))
    assert float(weighted[1]) == pytest.approx(2 * float(nats[1])) and 0 < weighted[0] < nats[0]
