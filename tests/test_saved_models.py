"""One way to name a model: a run's folder or one in Hugging Face's layout, for every command."""

import json
import shutil

import pytest
import torch

import stlm_kit as kit
from stlm_kit import KitError, cli, load_model, saved_models

VERSE = "\n\n".join(f"Verse {n}: the quick fox number {n} jumps over {n % 7} dogs." for n in range(60))
SIZES = {"n_layers": 2, "d_model": 32, "n_heads": 4, "n_kv_heads": 2, "d_ff": 48}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run, its export (in "hf") and a text."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "verse.txt").write_text(VERSE)
    settings = kit.run_settings(
        corpus=str(folder / "verse.txt"), tokenizer="bytes", steps=8, batch_size=4, context_length=16, overrides=SIZES
    )
    kit.train_from_text(settings, folder / "run", progress=False)
    assert cli.main(["export", "--model", str(folder / "run"), "--to", "hf", "--out", str(folder / "hf")]) == 0
    return folder


def said(capsys, *command) -> str:
    assert cli.main([str(part) for part in command]) == 0
    return capsys.readouterr().out


def refused(capsys, *command) -> str:
    capsys.readouterr()
    assert cli.main([str(part) for part in command]) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("stlm: ") and error.count("\n") == 1 and "Error:" not in error
    return error


def test_an_export_generates_and_scores_what_its_run_does(place, capsys):
    text = place / "verse.txt"
    for command in (["generate", "--prompt", "Verse 7", "--seed", 3], ["evaluate", "--text", text, "--json"]):
        run, export = (said(capsys, *command, "--model", place / name) for name in ("run", "hf"))
        assert run == export
    loaded = load_model(place / "hf")
    assert loaded.step is None and loaded.tokenizer.name == "bytes" and not loaded.model.training
    assert loaded.config["model"] == loaded.model.config.model_dump(mode="json")
    assert load_model(place / "run").step == 8


def test_an_export_of_an_export_is_the_same_model(place, tmp_path, capsys):
    said(capsys, "export", "--model", place / "hf", "--to", "hf", "--out", tmp_path / "again")
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "again" / name).read_bytes() == (place / "hf" / name).read_bytes()
    assert "itself" in refused(capsys, "export", "--model", place / "hf", "--to", "hf", "--out", place / "hf")


def test_a_sharded_model_of_transformers_is_named_like_any_other(place, tmp_path, capsys):
    transformers = pytest.importorskip("transformers")
    made = transformers.AutoModelForCausalLM.from_pretrained(place / "hf")
    made.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 1
    assert "no tokenizer.json" in refused(capsys, "generate", "--model", tmp_path / "shards")
    shutil.copy(place / "hf" / "tokenizer.json", tmp_path / "shards")
    command = ["evaluate", "--text", place / "verse.txt", "--json", "--model"]
    assert said(capsys, *command, tmp_path / "shards") == said(capsys, *command, place / "hf")


def test_what_is_neither_is_told_what_was_looked_for(place, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    sentence = refused(capsys, "generate", "--model", tmp_path / "empty")
    assert all(word in sentence for word in ("checkpoint", "config.json", "model.safetensors", "shards")), sentence
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "config.json").write_text('{"colour": "red"}')
    assert "no trained run yet" in refused(capsys, "generate", "--model", tmp_path / "notes")
    assert "Hugging Face" in refused(capsys, "generate", "--model", "gpt2")
    assert "is a file" in refused(capsys, "generate", "--model", place / "hf" / "model.safetensors")
    assert "pickle" in refused(capsys, "generate", "--model", tmp_path / "model.bin")
    shutil.copytree(place / "hf", tmp_path / "half")
    (tmp_path / "half" / "config.json").unlink()
    assert "no config.json" in refused(capsys, "generate", "--model", tmp_path / "half")
    (tmp_path / "half" / "config.json").write_text("{")
    assert "is not JSON" in refused(capsys, "generate", "--model", tmp_path / "half")
    (tmp_path / "half" / "model.safetensors").unlink()
    (tmp_path / "half" / "config.json").write_text('{"model_type": "llama"}')
    assert "lacks 'num_attention_heads'" in refused(capsys, "generate", "--model", tmp_path / "half")


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(place, tmp_path):
    shutil.copytree(place / "hf", tmp_path / "hf")
    kit.load_tokenizer("bpe-300", [VERSE]).save(tmp_path / "hf")
    with pytest.raises(KitError, match="300 tokens and the model 257"):
        load_model(tmp_path / "hf")


def test_training_starts_from_the_same_names(place):
    config = load_model(place / "hf").model.config
    model = kit.Decoder(type(config)(**{**config.model_dump(), "n_kv_heads": 2, "dropout": 0.5, "context_length": 99}))
    saved_models.start_from(model, place / "hf")
    theirs = load_model(place / "run").model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "changed", [{"rope_base": 500.0}, {"window": 4}, {"norm_epsilon": 0.1}, {"n_heads": 8, "n_kv_heads": 4}], ids=str
)
def test_training_does_not_start_from_a_file_that_computes_something_else(place, changed):
    config = load_model(place / "hf").model.config
    model = kit.Decoder(type(config)(**{**config.model_dump(exclude={"head_dim"}), **changed}))
    with pytest.raises(KitError, match=f"another configuration's: {next(iter(changed))} is"):
        saved_models.start_from(model, place / "hf")


def test_bf16_weights_are_used_as_they_are(place, tmp_path, capsys):
    model = load_model(place / "run").model.bfloat16()
    kit.export_to_hf(model, tmp_path / "bf16", load_model(place / "run").tokenizer)
    assert next(load_model(tmp_path / "bf16").model.parameters()).dtype == torch.bfloat16
    score = json.loads(said(capsys, "evaluate", "--model", tmp_path / "bf16", "--text", place / "verse.txt", "--json"))
    whole = json.loads(said(capsys, "evaluate", "--model", place / "hf", "--text", place / "verse.txt", "--json"))
    assert score["bits_per_byte"] == pytest.approx(whole["bits_per_byte"], rel=0.01)
    assert said(capsys, "generate", "--model", tmp_path / "bf16", "--prompt", "Verse")
