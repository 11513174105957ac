"""Both norms timed by themselves, and their rows replaced in place."""

import pytest

from stlm_kit.ledger.claims import find_claim
from stlm_kit.reproduce import results
from stlm_kit.studies.poster import norms


def test_a_row_replaces_that_of_the_same_name_and_device(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "checkout_folder", lambda: tmp_path)
    monkeypatch.setattr(norms, "POSITIONS", 512)
    for kind in ("rmsnorm", "layernorm", "rmsnorm"):
        row = norms.record_norm(kind, 32)
        assert row["metrics"]["parameters"] == {"rmsnorm": 32, "layernorm": 64}[kind]
        assert row["metrics"]["seconds_median"] > 0 < row["metrics"]["peak_mib"]
    rows = results.read_rows(tmp_path / "poster.jsonl")
    assert [(row["name"], row["study"]) for row in rows] == [
        ("norm-layernorm-32", "poster"),
        ("norm-rmsnorm-32", "poster"),
    ]


@pytest.mark.parametrize(("slower", "found"), [(2.0, False), (0.5, True)])
def test_lighter_means_parameters_and_time_apart(monkeypatch, tmp_path, slower, found):
    def row(kind, width):
        rms = kind == "rmsnorm"
        metrics = {"parameters": width * (1 if rms else 2), "peak_mib": 1.0, "seconds_median": slower if rms else 1.0}
        return {"name": f"norm-{kind}-{width}", "metrics": metrics}

    monkeypatch.setattr(results, "rows_file", lambda study: tmp_path)
    monkeypatch.setattr(
        results, "read_rows", lambda path: [row(k, w) for k in ("rmsnorm", "layernorm") for w in (128, 512, 4096)]
    )
    answer = norms.lighter_norm(find_claim("poster.trend.rms_lighter").setting)
    assert answer.found == {"parameters": True, "time on a processor": found}
