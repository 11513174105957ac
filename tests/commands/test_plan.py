"""`stlm plan`, `--run`, and runs that are refused because they cannot fit."""

import json
from dataclasses import replace

import pytest
import torch
import yaml

from stlm_kit.cli import main
from stlm_kit.memory.devices import CONTEXT_MIB, DEVICES
from stlm_kit.reproduce import estimate
from stlm_kit.reproduce.cost import work_of
from stlm_kit.reproduce.request import Request, plan


@pytest.fixture
def study(tmp_path) -> str:
    """Two sizes of batch, on a few lines of text, at both profiles."""
    text = tmp_path / "lines.txt"
    text.write_text("\n\n".join(f"Line {n} says {n * n}, and then it says {n * n * n}." for n in range(90)))
    parameters = {"corpus": str(text), "tokenizer": "bytes", "preset": "laptop-gpt2", "steps": 3, "context_length": 32}
    runs = {
        "name": "b{batch_size}",
        "about": "two sizes of batch",
        "grid": {"batch_size": [2, 64]},
        "parameters": parameters,
        "profiles": {"laptop": {}, "mig20": {}},
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"source": "mine", "title": "t", "citation": "c", "runs": [runs]}))
    return str(path)


def planned(capsys, *arguments: str) -> dict:
    assert main(["plan", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_plan_of_a_study(study, capsys):
    small, large = planned(capsys, study)["runs"]
    assert (small["index"], small["name"], large["index"], large["name"]) == (1, "b2", 2, "b64")
    assert small["tokens"] == 3 * 2 * 32 and large["flops"] == 32 * small["flops"]
    assert large["predicted_mib"] > small["predicted_mib"] > 1
    assert small["time_limit"] == "00:15:00" and 0 < small["hours"] < 1
    assert main(["plan", study]) == 0
    shown = capsys.readouterr().out
    assert "b64" in shown and "`stlm submit mine --profile laptop`, with --dry-run to see it first." in shown


@pytest.mark.skipif(torch.cuda.is_available(), reason="the hours of a device that is not here")
def test_hours_follow_the_stated_utilisation_and_the_peak_of_the_slice(study, capsys):
    half, whole = (planned(capsys, study, "--profile", "mig20", "--utilisation", u)["runs"][1] for u in ("0.5", "1"))
    assert half["hours"] == pytest.approx(2 * whole["hours"])
    assert whole["hours"] - whole["evaluation_hours"] == pytest.approx(whole["flops"] / (19.5e12 * 28 / 108) / 3600)


def test_evaluations_are_counted_apart(study, capsys):
    """Every evaluation is one more forward pass over the documents that are scored."""
    given = ["--profile", "mig20", "--run", "b2"]
    last, each, first = (
        planned(capsys, study, *given, *more)["runs"][0]
        for more in ([], ["-p", "eval_every=1"], ["-p", "eval_documents=1"])
    )
    assert each["evaluation_hours"] == pytest.approx(3 * last["evaluation_hours"])
    assert 0 < first["evaluation_hours"] < last["evaluation_hours"] / 3
    assert each["hours"] - each["evaluation_hours"] == pytest.approx(first["hours"] - first["evaluation_hours"])
    with_text_elsewhere = planned(capsys, "memory", "--profile", "mig20", "--run", "fp32-b32")
    assert with_text_elsewhere["runs"][0]["evaluation_hours"] is None and any(
        "Evaluations are left out" in note for note in with_text_elsewhere["notes"]
    )


@pytest.mark.parametrize(("steps", "every", "times"), [(10, 0, 1), (10, 5, 2), (10, 3, 4), (10, 20, 1), (1, 1, 1)])
def test_a_run_evaluates_every_so_many_steps_and_at_its_end(study, steps, every, times):
    work = work_of(plan(Request([study], parameters={"steps": steps, "eval_every": every}, only="b2"))[0])
    assert work.evaluations == times


def test_calibration_times_real_steps(study, capsys):
    found = planned(capsys, study, "--run", "b2", "--calibrate", "3")
    run = found["runs"][0]
    training = run["hours"] - run["evaluation_hours"]
    assert training == pytest.approx(3 * run["seconds_per_step"] / 3600) and run["utilisation"] != 0.3
    assert any("timed on this device" in note for note in found["notes"])


def test_a_run_by_name_or_by_its_place_from_1(study, capsys):
    by_name, by_place = (planned(capsys, study, "--run", which)["runs"] for which in ("b64", "2"))
    assert [run["index"] for run in by_name] == [run["index"] for run in by_place] == [2]
    assert [run.name for run in plan(Request([study], only="2"))] == ["b64"]
    assert [run.name for run in plan(Request([study], only="b2"))] == ["b2"]
    for wrong in ("0", "3"):
        assert main(["reproduce", study, "--run", wrong]) == 2
        assert f"There is no run {wrong} among these 2; they count from 1" in capsys.readouterr().err
    assert main(["reproduce", study, "--run", "b3"]) == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--utilisation", "0"], "--utilisation 0.0 will not do"),
        (["--utilisation", "1.1"], "up to 1"),
        (["--calibrate", "0"], "the number of steps"),
        (["--budget", "tiny"], "There is no budget 'tiny'"),
        (["--profile", "mig2"], "Did you mean 'mig20'"),
        (["-p", "recipe=fp33"], "fp33"),
    ],
)
def test_options_that_will_not_do(study, capsys, options, sentence):
    assert main(["plan", study, *options]) == 2
    assert sentence in capsys.readouterr().err


def test_chapters_are_not_planned(capsys):
    assert main(["plan", "02"]) == 2
    assert "takes a study" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU's own memory decides, not the size set here")
def test_a_run_that_cannot_fit_is_refused_and_the_others_run(study, tmp_path, monkeypatch, capsys):
    """On a slice of a size that b2 fits into and b64 does not."""
    monkeypatch.setenv("STLM_ALLOW_CPU", "1")
    small, large = planned(capsys, study, "--profile", "mig20")["runs"]
    assert small["fits"] == large["fits"] == "yes"
    between = (small["reserved_mib"] + large["predicted_mib"]) / 2
    monkeypatch.setitem(DEVICES, "mig-20gb", replace(DEVICES["mig-20gb"], memory_mib=between + CONTEXT_MIB))
    first, second = planned(capsys, study, "--profile", "mig20", "--budget", str(between))["runs"]
    assert (first["fits"], second["fits"]) == ("yes", "no") and "accumulation_steps=" in second["refusal"]
    above = (large["needed_mib"] + large["reserved_mib"]) / 2
    last = planned(capsys, study, "--profile", "mig20", "--budget", str(above), "--run", "2")["runs"]
    assert [run["fits"] for run in last] == ["tight"]

    command = ["reproduce", study, "--profile", "mig20", "--figures", str(tmp_path / "figures")]
    assert main([*command, "--run", "2"]) == 1
    said = capsys.readouterr()
    assert "b64 cannot fit: it needs" in said.err and said.out == ""

    assert main(command) == 1
    said = capsys.readouterr()
    assert "done in" in said.out, said
    assert said.out.index("b64") < said.out.index("These fit and are run: b2") < said.out.index("done in")
    assert "1 of 2 runs cannot fit into memory: b64" in said.err
    small, large = plan(Request([study], "mig20"))
    assert (small.state(), large.state()) == ("done", "missing")

    assert main([*command, "--unchecked"]) == 0  # on the CPU it does fit
    assert large.state() == "done"


@pytest.mark.parametrize(("slow", "size"), [(True, "256 x 256"), (False, "1,024 x 1,024")])
def test_a_slow_processors_peak_is_measured_with_a_small_product(monkeypatch, slow, size):
    monkeypatch.setattr(estimate, "is_slow", lambda precision: slow)
    peak, how = estimate.peak_of.__wrapped__("cpu", "fp32")
    assert peak > 0 and how.endswith(f"a product of two matrices of {size}")
