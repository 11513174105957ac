"""From text to a trained decoder and back."""

import json
import shutil

import pytest
import torch

import stlm_kit as kit
from stlm_kit import Interrupted, KitError, UsageError, load_run, run_settings, saved_models, train_from_text
from stlm_kit.presets import PRESETS, preset, preset_entry
from stlm_kit.train_from_text import model_config, prepare

SMALL = {"n_layers": 1, "d_model": 32, "n_heads": 2, "n_kv_heads": 1, "d_ff": 32}


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    """Sixty small documents."""
    path = tmp_path_factory.mktemp("text") / "verses.txt"
    path.write_text("\n\n".join(f"Verse {n}: the {'quick ' * (n % 7)}fox number {n} jumps." for n in range(60)))
    return path


def settings(text_file, **changes):
    values = {"preset": "laptop-llama", "corpus": str(text_file), "tokenizer": "bytes", "overrides": SMALL}
    return run_settings(**values | {"steps": 6, "batch_size": 4, "context_length": 16, "eval_every": 3} | changes)


@pytest.fixture(scope="module")
def run_dir(text_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "verses"
    train_from_text(settings(text_file), folder)
    return folder


def test_a_run_leaves_what_the_readme_promises(run_dir):
    assert {"config.json", "metrics.jsonl", "result.json", "checkpoint", "tokenizer"} <= {
        p.name for p in run_dir.iterdir()
    }
    config = json.loads((run_dir / "config.json").read_text())
    assert {"run", "read", "content", "model", "training", "recipe", "batches", "made_by"} == set(config)
    assert config["run"]["split_seed"] == 0 and "attend across documents" in config["batches"]


def test_some_documents_are_trained_on_and_some_are_scored(text_file):
    whole = prepare(settings(text_file))[1]
    n, held = whole["train"].n_documents, whole["validation"].n_documents
    assert (n, held) == (51, 6)

    def documents(**chosen):
        tokens = prepare(settings(text_file, **chosen))[1]
        return {split: [bytes(tokens[split].document(i)) for i in range(tokens[split].n_documents)] for split in tokens}

    everything, first = documents(), documents(train_documents=4, eval_documents=3)
    assert first == {**everything, "train": everything["train"][:4]}  # the first N are chosen when they are scored
    spread = documents(train_documents=3, eval_documents=3, spread_documents=True)
    assert spread["train"] == [everything["train"][i] for i in (0, 25, 50)]
    assert spread["validation"] == [everything["validation"][i] for i in (0, 2, 5)]
    assert documents(train_documents=99, eval_documents=99, spread_documents=True) == everything


def test_the_last_of_spread_documents_is_scored_alone(text_file):
    chosen = settings(text_file, eval_documents=3, spread_documents=True)
    trained = train_from_text(chosen, progress=False)
    tokens = prepare(chosen)[1]["validation"]
    whole, last = (kit.evaluate_tokens(trained.model, part) for part in (tokens, tokens.select([2])))
    scores = trained.validation[-1][1]
    assert scores["bits_per_byte"] == pytest.approx(whole.bits_per_byte, rel=1e-6)
    assert scores["last_document_bits_per_byte"] == pytest.approx(last.bits_per_byte, rel=1e-6)
    assert "last_document_bits_per_byte" not in train_from_text(settings(text_file), progress=False).validation[-1][1]


def test_what_was_read_is_kept_and_said_and_does_not_tell_runs_apart(run_dir, text_file, tmp_path, capsys):
    read = json.loads((run_dir / "config.json").read_text())["read"]
    assert read["files"] == ["verses.txt"] and read["file_bytes"] == text_file.stat().st_size
    assert {split: part["documents"] for split, part in read["parts"].items()} == {
        "train": 51,
        "validation": 6,
        "test": 3,
    }
    assert sum(part["bytes"] for part in read["parts"].values()) == text_file.stat().st_size - 2 * 59
    copy = shutil.copy(text_file, tmp_path / "other.txt")
    said = []
    train_from_text(settings(copy), run_dir, say=said.append)  # the same text under another name is the same run
    assert len(said) == 1 and "\n" not in said[0] and "train 51 documents" in said[0] and "1 file" in said[0]
    assert "corpus:" not in capsys.readouterr().out


def test_a_loaded_run_scores_as_it_did_when_trained(run_dir, text_file):
    run = load_run(run_dir)
    recorded = json.loads((run_dir / "result.json").read_text())["validation"]
    tokens = kit.tokenize_corpus(kit.load_corpus(str(text_file)), run.tokenizer)
    score = kit.evaluate_tokens(run.model, tokens["validation"], batch_size=4)
    assert score.perplexity == pytest.approx(recorded["perplexity"], rel=1e-6)
    assert score.bits_per_byte == pytest.approx(recorded["bits_per_byte"], rel=1e-6)


def test_the_same_settings_give_the_same_losses(text_file):
    assert train_from_text(settings(text_file)).losses == train_from_text(settings(text_file)).losses


def test_another_seed_gives_other_losses(text_file):
    assert train_from_text(settings(text_file)).losses != train_from_text(settings(text_file, seed=1)).losses


def test_training_lowers_the_loss(text_file):
    losses = train_from_text(settings(text_file, steps=80, learning_rate=1e-2, batch_size=8)).losses
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("changes", [{"packing": "documents"}, {"attend_across_documents": False}, {"recipe": "bf16"}])
def test_the_other_ways_to_batch_and_to_compute(text_file, changes):
    assert train_from_text(settings(text_file, **changes)).result["steps"] == 6


def test_a_published_preset_refuses_another_vocabulary(text_file):
    with pytest.raises(UsageError, match="'gpt2-small' has 50,257 tokens and the tokenizer 'bytes' 257"):
        train_from_text(settings(text_file, preset="gpt2-small", overrides={}))


@pytest.mark.parametrize(
    ("size", "overrides"),
    [(151_668, {}), (151_670, {}), (151_937, {}), (257, {}), (151_669, {"vocab_size": 151_668})],
)
def test_rows_beyond_the_tokenizer_are_only_those_that_the_preset_states(size, overrides):
    qwen = run_settings(preset="distilqwen3", overrides={})
    assert model_config(qwen, "qwen3", 151_669).vocab_size == 151_936
    with pytest.raises(UsageError, match="use the tokenizer 'qwen3', or override vocab_size"):
        model_config(run_settings(preset="distilqwen3", overrides=overrides), "another", size)


def test_a_padded_vocabulary_trains_and_generates_only_tokens(text_file, tmp_path, monkeypatch):
    """As distilqwen3 has it, in small: 300 rows for the 257 tokens of bytes."""
    entry = preset_entry("distilqwen3")
    config = preset("laptop-llama", vocab_size=300, **SMALL)
    small = entry.model_copy(update={"name": "padded", "config": config, "tokenizer": "bytes", "tokenizer_size": 257})
    monkeypatch.setitem(PRESETS, "padded", small)
    result = train_from_text(settings(text_file, preset="padded", overrides={}), tmp_path).result
    run = load_run(tmp_path)
    assert (run.model.config.vocab_size, run.tokenizer.vocab_size) == (300, 257)
    assert 1 < result["validation"]["perplexity"] < 1000
    with torch.no_grad():
        run.model.embedding.weight[257:] *= 1e4  # the head's rows, too: padding is now by far the likeliest
    assert kit.generate(run.model, run.tokenizer, "Verse", 5, temperature=1.0).startswith("Verse")


def test_an_unknown_preset_names_the_near_ones(text_file):
    with pytest.raises(UsageError, match="stlm-50m"):
        train_from_text(settings(text_file, preset="stlm-50"))


def test_a_device_the_machine_lacks(text_file):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(KitError, match="no cuda device"):
        train_from_text(settings(text_file, device="cuda"))
    with pytest.raises(UsageError, match="no device named 'gpu'"):
        train_from_text(settings(text_file, device="gpu"))


def test_a_run_directory_that_is_none(tmp_path):
    with pytest.raises(KitError, match="no run directory"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(KitError, match="no trained run yet"):
        load_run(tmp_path)


def test_weights_and_biases_offline(text_file, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    train_from_text(settings(text_file), tmp_path / "run", wandb="test")
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))


def test_an_interrupted_run_can_be_read(text_file, tmp_path, monkeypatch):
    """The tokenizer lies beside the checkpoint from the start, not from the end."""

    def interrupt(*_, **__):
        raise Interrupted("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(train_from_text, "evaluate_tokens", interrupt)  # at step 3, after the checkpoint of step 2
        with pytest.raises(Interrupted):
            train_from_text(settings(text_file, checkpoint_every=2), tmp_path)
    run = load_run(tmp_path)
    assert run.step == 2 and run.tokenizer.name == "bytes"


@pytest.mark.parametrize("content", ["{}", "[]", '{"model": {"foo": 1}}', '{"model": 3}', "{"])
def test_a_foreign_configuration_is_named(run_dir, tmp_path, content):
    shutil.copytree(run_dir, tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text(content)
    with pytest.raises(KitError, match=r"config.json (is damaged|describes no model)") as caught:
        load_run(tmp_path / "run")
    assert caught.value.exit_status == 1


@pytest.mark.parametrize("name", ["cpu:foo", "cpu:1", "cpu:", "cuda:99"])
def test_a_device_that_is_none(name):
    with pytest.raises(KitError, match=r"[Nn]o .*device"):
        saved_models.pick_device(name)
