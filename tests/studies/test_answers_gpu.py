"""Claims that rows of a GPU answer: by the device they name, undecided where rows are missing or disagree."""

import pytest

from stlm_kit import ledger
from stlm_kit.ledger import gpu_rows
from stlm_kit.reproduce import results

H100 = "NVIDIA H100 80GB HBM3"


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """kept(name, metrics, device): one more row among those of benchmarks/gpu.py, of which there are none at first."""
    path, rows = tmp_path / "gpu.jsonl", []
    monkeypatch.setattr(results, "rows_file", lambda study: path if rows and study == gpu_rows.STUDY else None)

    def keep(name, metrics, device=H100):
        rows.append(results.new_row("gpu", name, {"name": name}, metrics, device))
        results.write_rows(path, rows)

    return keep


def answer(claim_id):
    claim = ledger.find_claim(claim_id)
    return ledger.row(claim, ledger.best_answer(claim, None))


def steps(kept, batch_size, fp32, bf16):
    """A pair of the study's steps: (the step, its products) in seconds."""
    for precision, (step, products) in {"fp32": fp32, "bf16": bf16}.items():
        kept(f"speed.study.{precision}-b{batch_size}", {"step_s": step, "products_s": products})


def test_without_rows_both_wait_for_a_gpu(kept):
    assert [answer(claim)["verdict"] for claim in ("mem.bf16.why_faster", "stlm.config.gpu_hours")] == ["needs_gpu"] * 2


@pytest.mark.parametrize("products, verdict", [(0.01, "confirmed"), (0.055, "contradicted")])
def test_bf16_is_faster_for_its_arithmetic_where_products_save_the_most(products, verdict, kept):
    for batch_size in (32, 64, 128):
        steps(kept, batch_size, (0.10, 0.06), (0.04, products))
    found = answer("mem.bf16.why_faster")
    assert found["verdict"] == verdict and H100 in found["how"]


def test_batch_sizes_that_disagree_leave_it_undecided_and_a_missing_one_open(kept):
    steps(kept, 32, (0.10, 0.06), (0.10, 0.06))  # nothing saved
    steps(kept, 64, (0.10, 0.06), (0.04, 0.01))
    assert answer("mem.bf16.why_faster")["verdict"] == "needs_gpu"
    steps(kept, 128, (0.10, 0.06), (0.04, 0.01))
    found = answer("mem.bf16.why_faster")
    assert found["verdict"] == "underdetermined" and "50.0 ms and 60.0 ms at batch size 64" in found["how"]


def test_hours_are_those_of_the_gpu_that_the_paper_names(kept):
    kept("speed.stlm-50m.bf16", {"step_s": 0.036}, "NVIDIA H200")
    assert answer("stlm.config.gpu_hours")["verdict"] == "needs_gpu"
    kept("speed.stlm-50m.bf16", {"step_s": 0.036})
    kept("speed.stlm-50m.bf16.compiled", {"ok": False, "failed": "no compiler"})
    found = answer("stlm.config.gpu_hours")
    assert found["found"] == {"as written": pytest.approx(5.0)} and found["verdict"] == "underdetermined"
    assert "500,000 micro-batches" in found["how"] and "the paper's own code" in found["how"]
