"""What a run will take: its text counted, its disk measured, its refusal a way out."""

import json
import re

import pytest

from stlm_kit.data.batches import DocumentBatches
from stlm_kit.errors import KitError, UsageError
from stlm_kit.memory.operations import step_operations
from stlm_kit.notebook_files import notebooks_dir
from stlm_kit.presets import preset
from stlm_kit.reproduce import text_figures as text_module
from stlm_kit.reproduce.cost import refusal, time_limit, weights_of, work_of
from stlm_kit.reproduce.run import Run
from stlm_kit.reproduce.study_runs import run_parameters
from stlm_kit.reproduce.text_figures import text_figures
from stlm_kit.train_from_text import make_batches, prepare, train_from_text

NOTEBOOK = notebooks_dir() / "run.ipynb"
SMALL = {"batch_size": 8, "steps": 40}


@pytest.fixture
def verses(tmp_path) -> str:
    """Documents of very unequal lengths."""
    path = tmp_path / "verses.txt"
    path.write_text("\n\n".join(f"Verse {n}: the {'quick ' * (n % 9)}fox number {n} jumps." for n in range(80)))
    return str(path)


def run_of(verses, **parameters) -> Run:
    given = {"corpus": verses, "tokenizer": "bytes", "preset": "laptop-gpt2", "context_length": 48, **parameters}
    return Run("mine", "one", NOTEBOOK, run_parameters({**SMALL, **given}, "laptop"))


def test_the_text_is_counted_as_the_batches_give_it(verses):
    work = work_of(run_of(verses, packing="documents", batch_size=4, context_length=90))
    _, tokens, _ = prepare(work.settings)
    rows = DocumentBatches(tokens["train"], 1, 90)
    shares = [rows[i].valid_fraction for i in range(len(rows))]
    assert work.valid_fraction == pytest.approx(sum(shares) / len(shares))
    assert work.valid_fraction < work.fullest < 1
    batches = make_batches(work.settings, tokens["train"])
    assert max(batches[i].valid_fraction for i in range(40)) < work.fullest

    apart = work_of(run_of(verses, attend_across_documents=False))
    assert 0.95 < apart.valid_fraction < 1 and work_of(run_of(verses)).valid_fraction == 1.0


def test_chosen_documents_are_what_is_counted(verses):
    chosen = {"train_documents": 3, "eval_documents": 2, "spread_documents": True}
    work = work_of(run_of(verses, packing="documents", context_length=90, **chosen))
    tokens = prepare(work.settings)[1]
    assert tokens["train"].n_documents == 3 and work.scored == tokens["validation"].n_bytes
    targets = [min(tokens["train"].document(i).size, 90) for i in range(3)]
    assert work.valid_fraction == pytest.approx(sum(targets) / 270)


def test_padding_is_not_predicted_as_text(verses):
    padded, packed = (
        work_of(run_of(verses, packing=packing, recipe="fp32+masked", batch_size=32))
        for packing in ("documents", "packed")
    )
    assert padded.memory().peak_allocated_mib < packed.memory().peak_allocated_mib


def test_figures_of_a_packages_corpus_are_kept_and_those_of_a_file_are_counted(verses, tmp_path, monkeypatch):
    monkeypatch.setenv("STLM_CACHE", str(tmp_path / "cache"))

    def text(**parameters):
        return text_figures(work_of(run_of(verses, **parameters)).settings)

    first = text(corpus="sotu", max_documents=20, context_length=64, eval_documents=1)
    assert text(max_documents=20) == text(max_documents=20) and first.scored > 1000
    _, tokens, _ = prepare(work_of(run_of(verses, eval_documents=2)).settings)
    two = tokens["validation"].document_bytes[:2].sum()
    assert text(eval_documents=2).scored == two  # the tokenizer's tokens are bytes

    def refuse(*_):
        raise AssertionError("counted again")

    monkeypatch.setattr(text_module, "_text", refuse)
    assert text(corpus="sotu", max_documents=20, context_length=64, eval_documents=1) == first
    with pytest.raises(AssertionError, match="counted again"):
        text(max_documents=20)


def test_a_text_that_is_elsewhere_is_not_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("STLM_CACHE", str(tmp_path))
    given = {"corpus": "wikitext-2", "preset": "memory-study", "window": 16}
    work = work_of(Run("mine", "one", NOTEBOOK, {"profile": "laptop", "settings": given}))
    assert work.valid_fraction is None and work.token_mib is None and work.evaluation_flops() is None
    assert work.config.window == 16 and work.config.context_length == 128


@pytest.mark.parametrize("recipe", ["fp32", "fp32+8bit"])
def test_the_disk_is_what_a_run_writes(verses, tmp_path, recipe):
    work = work_of(run_of(verses, steps=2, batch_size=2, recipe=recipe))
    train_from_text(work.settings, tmp_path / "run", progress=False)
    kept = sum(path.stat().st_size for path in (tmp_path / "run" / "checkpoint").rglob("*") if path.is_file())
    assert work.disk_mib() == pytest.approx(2 * kept / 2**20, rel=0.03)


def test_operations_add_up_over_steps_and_batches(verses):
    one = work_of(run_of(verses, steps=3, batch_size=8))
    assert one.flops() == work_of(run_of(verses, steps=1, batch_size=24)).flops()
    assert one.flops() == work_of(run_of(verses, steps=3, batch_size=2, accumulation_steps=4)).flops()


def test_a_live_teacher_is_part_of_the_plan_and_a_cached_one_is_not(verses, tmp_path):
    """The teacher's forward pass in each step, and its weights; evaluations have no teacher."""
    teacher = preset("laptop-gpt2", vocab_size=257, context_length=48, d_model=256)
    (tmp_path / "config.json").write_text(json.dumps({"model": teacher.model_dump(mode="json")}))
    alone = work_of(run_of(verses, steps=2, batch_size=4))
    live, cached = (
        work_of(run_of(verses, steps=2, batch_size=4, teacher=str(tmp_path), alpha=0.5, **more))
        for more in ({}, {"teacher_outputs": "top-k", "teacher_k": 4})
    )
    forward = step_operations(teacher, "fp32", 4, 48).forward
    assert live.flops() - alone.flops() == 2 * forward and cached.flops() == alone.flops()
    assert live.evaluation_flops() == alone.evaluation_flops() > 0
    weights = sum(n for n, _ in weights_of(teacher, None)) * 4 / 2**20
    parameters = [work.memory().by_category["parameters"] for work in (alone, live, cached)]
    assert parameters[1] - parameters[0] == pytest.approx(weights, rel=0.01)
    assert parameters[2] == pytest.approx(parameters[0], abs=0.01)
    missing = work_of(run_of(verses, teacher=str(tmp_path / "later"), alpha=0.5))
    with pytest.raises(KitError, match=r"no teacher in .* yet; train it first"):
        missing.memory()


def test_what_a_refusal_suggests_does_fit(verses):
    work = work_of(run_of(verses, recipe="fp32+eager", batch_size=24, context_length=128))
    limit = 0.6 * work.memory().peak_allocated_mib
    assert refusal(work, 1e6) == ""
    why = refusal(work, limit)
    most = int(re.search(r"largest batch that fits is (\d+)", why)[1])
    batch_size, parts = map(int, re.search(r"batch_size=(\d+) -p accumulation_steps=(\d+) gives", why).groups())
    assert batch_size <= most < 24 and batch_size * parts == 24
    suggested = work_of(
        run_of(verses, recipe="fp32+eager", context_length=128, batch_size=batch_size, accumulation_steps=parts)
    )
    assert refusal(suggested, limit) == ""

    assert "not even a batch of one row fits" in refusal(work, 10.0)
    alone = refusal(work_of(run_of(verses, recipe="fp32+eager+in-backward", batch_size=24, context_length=128)), limit)
    assert "in-backward cannot accumulate" in alone and "accumulation_steps" not in alone


def test_settings_that_do_not_fit_together(verses):
    with pytest.raises(UsageError, match="recipe part"):
        work_of(run_of(verses, recipe="fp33"))


@pytest.mark.parametrize(
    ("hours", "limit"), [(0, "00:15:00"), (0.05, "00:15:00"), (0.06, "00:30:00"), (1, "01:45:00"), (80, "120:15:00")]
)
def test_time_limits_are_rounded_up(hours, limit):
    assert time_limit(hours) == limit
