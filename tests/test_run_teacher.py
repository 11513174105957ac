"""A run that learns from a teacher or from softened labels, by its settings: `stlm train --set` and a study's runs."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import stlm_kit as kit
from stlm_kit import KitError, UsageError, train_from_text
from stlm_kit.continuation import continue_from
from stlm_kit.memory import measure_peak, predict_peak
from stlm_kit.model import build_model
from stlm_kit.options import settings_from
from stlm_kit.reproduce.run_hash import content_of, names_a_file
from stlm_kit.reproduce.study_names import beside
from stlm_kit.run_teacher import empty_loss_of_run
from stlm_kit.train_from_text import prepare
from stlm_kit.training.distillation import DistillationLoss

SMALL = {"n_layers": 1, "d_model": 32, "n_heads": 2, "n_kv_heads": 1, "d_ff": 32, "context_length": 16}


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "verses.txt"
    path.write_text("\n\n".join(f"Verse {n}: the {'quick ' * (n % 7)}fox number {n} jumps." for n in range(60)))
    return path


@pytest.fixture(scope="module")
def settings(text_file):
    def made(**changes):
        values = {"preset": "laptop-llama", "corpus": str(text_file), "tokenizer": "bytes", "steps": 6, "batch_size": 4}
        return settings_from({**values, **SMALL, **changes}, texts=True)

    return made


@pytest.fixture(scope="module")
def teacher(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "wide"
    train_from_text(settings(d_model=48, n_layers=2), folder, progress=False)
    return str(folder)


TAUGHT = {"alpha": "0.7", "beta": "0.3", "beta_warmup_steps": "4", "distillation_temperature": "2"}
HIDDEN = {"hidden_layers": "[[1, 2]]", "hidden_distance": "cosine"}


def test_a_run_learns_from_a_teacher_by_its_settings(settings, teacher, tmp_path):
    given = settings(teacher=teacher, **TAUGHT, **HIDDEN)
    rows = train_from_text(given, tmp_path / "run", progress=False).metrics
    assert [row["beta"] for row in rows] == pytest.approx([0.075, 0.15, 0.225, 0.3, 0.3, 0.3])
    for row in rows:
        parts = 0.7 * row["cross_entropy"] + row["beta"] * 4 * row["divergence"] + row["hidden_distance"]
        assert row["loss"] == pytest.approx(parts, rel=1e-5)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["distillation"]["alpha"] == 0.7 and len(config["content"]["teacher"]) == 64
    assert config["loss"]["settings"]["temperature"] == 2.0
    with pytest.raises(KitError, match="holds another run"):
        train_from_text(settings(teacher=teacher, **{**TAUGHT, "alpha": "0.5"}, **HIDDEN), tmp_path / "run")
    longer = continue_from(tmp_path / "run", 8, tmp_path / "longer", say=lambda _: None, progress=False)
    assert longer.result["steps"] == 8 and longer.metrics[7]["divergence"] > 0


def test_the_first_step_starts_from_the_same_student(settings, teacher):
    """The teacher is loaded after the student was drawn, so arms of a study differ in the loss alone."""
    alone = train_from_text(settings(steps=1), progress=False).metrics[0]
    taught = train_from_text(settings(steps=1, teacher=teacher, alpha="1.0"), progress=False).metrics[0]
    assert taught["cross_entropy"] == pytest.approx(alone["loss"], rel=1e-6)


def test_outputs_are_kept_by_the_first_run_and_read_by_others(settings, teacher, tmp_path, monkeypatch):
    monkeypatch.setenv("STLM_CACHE", str(tmp_path / "cache"))
    said, losses = [], {}
    for outputs in ({}, {"teacher_outputs": "full"}, {"teacher_outputs": "full"}, {"teacher_outputs": "top-k"}):
        k = {"teacher_k": "5"} if outputs.get("teacher_outputs") == "top-k" else {}
        given = settings(teacher=teacher, **TAUGHT, **outputs, **k)
        losses[outputs.get("teacher_outputs")] = train_from_text(given, progress=False, say=said.append).losses
    assert losses["full"] == pytest.approx(losses[None], rel=1e-6)
    assert losses["top-k"] != pytest.approx(losses[None], rel=1e-6)
    assert sum(line.startswith("teacher's outputs:") for line in said) == 2  # full and top-k, each made once
    other = settings(teacher=teacher, **TAUGHT, teacher_outputs="full", seed="4")
    train_from_text(other, progress=False, say=said.append)
    assert sum(line.startswith("teacher's outputs:") for line in said) == 2
    config = prepare(given)[2]
    make = empty_loss_of_run(given.distillation, config)
    assert predict_peak(config, "fp32", 4, 16, loss=make).by_category["parameters"] == pytest.approx(
        predict_peak(config, "fp32", 4, 16).by_category["parameters"]
    )


def test_softened_labels_need_no_teacher(settings):
    plain = train_from_text(settings(steps=1), progress=False).metrics[0]
    smoothed = train_from_text(settings(steps=1, label_smoothing="0.1"), progress=False).metrics[0]
    assert "cross_entropy" not in plain
    assert smoothed["cross_entropy"] == pytest.approx(plain["loss"], rel=1e-6)
    assert smoothed["loss"] != pytest.approx(plain["loss"], rel=1e-6)


def test_its_memory_is_predicted_with_the_teacher(settings, teacher):
    given = settings(teacher=teacher, **TAUGHT, **HIDDEN)
    config = prepare(given)[2]
    make = empty_loss_of_run(given.distillation, config)
    measured = measure_peak(config, "fp32", 4, 16, repeats=0, loss=make).peak_allocated_mib
    predicted = predict_peak(config, "fp32", 4, 16, semantics="cpu", loss=make).peak_allocated_mib
    assert predicted == pytest.approx(measured, rel=0.005)
    assert empty_loss_of_run(settings().distillation, config) is None


def test_a_teacher_padded_beyond_the_tokenizer_is_cut(settings):
    given = settings(teacher="anywhere", alpha="0.5")
    student = build_model(prepare(given)[2])
    teacher = build_model(student.config.model_copy(update={"vocab_size": 300}))
    loss = given.distillation.loss(student.config, teacher)
    assert isinstance(loss, DistillationLoss) and loss.vocab_size == student.config.vocab_size == 257
    ids = kit.load_tokenizer("bytes").encode("a verse of text")
    batch = kit.Batch(torch.tensor([ids[:-1]]), torch.tensor([ids[1:]]))
    assert loss(student, batch, 1).log["divergence"] > 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"alpha": "0.5"}, "alpha = 0.5 has no teacher"),
        ({"distillation_temperature": "2"}, "has no teacher; give teacher as well"),
        ({"teacher": "x", "beta": "0"}, "nothing to train"),
        ({"teacher": "x", "divergence": "kl"}, "divergence"),
        ({"teacher": "x", "hidden_layers": "[[1, 2, 3]]"}, "hidden_layers"),
        ({"label_smoothing": "1.0"}, "label_smoothing"),
        ({"teacher": "x", "teacher_outputs": "top-k"}, "do not go together"),
        ({"teacher": "x", "teacher_k": "3"}, "do not go together"),
        ({"teacher_outputs": "full"}, "has no teacher"),
        ({"teacher": "x", "teacher_outputs": "full", **HIDDEN}, "hold no hidden states"),
        (
            {"teacher": "x", "teacher_outputs": "sampled", "teacher_k": "3", "divergence": "reverse_kl"},
            "forward_kl alone",
        ),
    ],
)
def test_settings_that_do_not_fit_are_one_sentence(settings, changes, sentence):
    with pytest.raises(UsageError, match=sentence):
        settings(**changes)


def test_another_tokenizer_and_a_missing_teacher_are_one_sentence(settings, teacher, tmp_path):
    with pytest.raises(KitError, match=r"with the tokenizer byte.* the student with another, bpe.*, so an id stands"):
        train_from_text(settings(teacher=teacher, tokenizer="bpe-300"), progress=False)
    with pytest.raises(KitError, match="There is no run directory"):
        train_from_text(settings(teacher=str(tmp_path / "nowhere")), progress=False)


def test_a_study_counts_a_teachers_folder_by_its_weights(teacher, tmp_path):
    copied = shutil.copytree(teacher, tmp_path / "copy")
    found = [content_of("teacher", Path(place)) for place in (teacher, copied)]
    assert names_a_file("teacher", teacher) and not names_a_file("teacher", "a-name")
    assert found[0] == found[1] and len(found[0]) == 64
    written = {"teacher": Path(copied).name, "alpha": 0.5}
    assert beside(tmp_path / "study.yaml", written) == {"teacher": str(copied), "alpha": 0.5}
