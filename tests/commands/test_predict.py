"""`stlm predict`: one report, or the study's 18 runs beside what it recorded."""

import json

import pytest

from stlm_kit.cli import main
from stlm_kit.memory import predict_peak
from stlm_kit.memory.devices import DEVICES
from stlm_kit.model import Decoder
from stlm_kit.presets import preset

SMALL = ["--preset", "laptop-llama", "--batch-size", "8", "--sequence-length", "64"]


def predicted(capsys, *arguments: str):
    assert main(["predict", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_one_report(capsys):
    report = predicted(capsys, *SMALL, "--recipe", "bf16+masked", "--valid-fraction", "0.5", "--budget", "30")
    asked = {"valid_fraction": 0.5, "span": "step"}
    same = predict_peak("laptop-llama", "bf16+masked", 8, 64, **asked)
    assert report["peak_allocated_mib"] == same.peak_allocated_mib
    assert sum(report["by_category"].values()) == pytest.approx(report["peak_allocated_mib"])
    assert report["fits"] == (report["peak_reserved_mib"] <= 30) and isinstance(report["largest_batch"], int)
    assert report["assumptions"] and "timeline" not in report

    before_update = predicted(capsys, *SMALL, "--span", "forward_backward", "--set", "n_layers=1")
    assert before_update == predicted(capsys, *SMALL, "--window", "forward_backward", "--set", "n_layers=1")
    assert before_update["span"] == "forward_backward"
    assert before_update["peak_allocated_mib"] < report["peak_allocated_mib"] * 2


def test_the_same_in_words(capsys):
    assert main(["predict", *SMALL, "--semantics", "cpu"]) == 0
    said = capsys.readouterr().out
    for words in ("8 rows of 64 positions", "at the peak", "logits and loss", "tensors alive", "Taken for granted:"):
        assert words in said


def test_a_teacher_counts_as_well(capsys, tmp_path):
    teacher = preset("laptop-llama", vocab_size=2048)
    (tmp_path / "config.json").write_text(json.dumps({"model": teacher.model_dump(mode="json")}))
    alone, live, kept = (
        predicted(capsys, *SMALL, *more)
        for more in (
            (),
            ("--set", f"teacher={tmp_path}"),
            ("--set", f"teacher={tmp_path}", "--set", "teacher_outputs=top-k", "--set", "teacher_k=4"),
        )
    )
    weights = sum(parameter.numel() for parameter in Decoder(teacher).parameters()) * 4 / 2**20
    parameters = [report["by_category"]["parameters"] for report in (alone, live, kept)]
    assert parameters[1] - parameters[0] == pytest.approx(weights, rel=0.01)
    assert parameters[2] == pytest.approx(parameters[0], abs=0.01)


def test_the_largest_batch_predicted_and_tried(capsys):
    small = ["--preset", "laptop-llama", "--set", "n_layers=1", "--set", "vocab_size=512", "--sequence-length", "64"]
    three = predicted(capsys, *small, "--batch-size", "3", "--semantics", "cpu")["peak_allocated_mib"]
    trial = [*small, "--batch-size", "1", "--budget", str(1.01 * three), "--try", "--device", "cpu"]
    report = predicted(capsys, *trial)
    assert report["semantics"] == report["tried_on"] == "cpu"
    assert report["largest_batch"] == report["largest_batch_tried"] == 3
    assert main(["predict", *trial]) == 0
    said = capsys.readouterr().out
    assert "the largest batch that fits is 3." in said and "Tried on cpu: the largest batch that trains is 3." in said


def test_a_gpu_by_its_name(capsys):
    report = predicted(capsys, *SMALL, "--device", "h100-80gb")
    same = predict_peak("laptop-llama", "fp32", 8, 64, span="step", device="h100-80gb")
    assert report["peak_allocated_mib"] == same.peak_allocated_mib
    assert report["fits"] is same.fits("h100-80gb") is True and report["largest_batch"] > 8
    assert report["budget_mib"] == DEVICES["h100-80gb"].safe_mib
    given = predicted(capsys, *SMALL, "--device", "h100-80gb", "--budget", "50")
    assert given["budget_mib"] == 50 and given["fits"] is False
    assert main(["predict", *SMALL, "--device", "t4", "--recipe", "bf16"]) == 0
    said = capsys.readouterr().out
    assert "Budget t4:" in said and "2% to spare" in said and "emulates bf16" in said


def test_the_study(capsys):
    cells = predicted(capsys, "--study", "memory")
    assert len(cells) == 18 and len({(cell["technique"], cell["batch_size"]) for cell in cells}) == 18
    assert max(abs(cell["error"]) for cell in cells) <= 0.001
    assert max(abs(cell["after_forward_error"]) for cell in cells) <= 0.001
    for cell in cells:
        assert cell["error"] == pytest.approx(cell["predicted_mib"] / cell["recorded_mib"] - 1, abs=1e-5)
    misprints = [cell for cell in cells if abs(cell["published_mib"] / cell["recorded_mib"] - 1) > 0.001]
    assert len(misprints) == 5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "Give --preset"),
        (["--preset", "laptop-llama"], "Give --batch-size"),
        (["--preset", "laptop-lama", "--batch-size", "8"], "Did you mean 'laptop-llama'"),
        ([*SMALL, "--recipe", "fp33"], "There is no recipe part 'fp33'"),
        ([*SMALL, "--valid-fraction", "1.5"], "valid_fraction = 1.5 will not do"),
        ([*SMALL, "--set", "n_layer=3"], "Did you mean 'n_layers'"),
        ([*SMALL, "--set", "n_layers"], "has no '='"),
        ([*SMALL, "--budget", "mig-20g"], "There is no budget 'mig-20g'"),
        ([*SMALL, "--device", "rtx-4080"], "Did you mean 'rtx-4090'"),
        ([*SMALL, "--device", "t4", "--semantics", "cpu"], "leave it out"),
        ([*SMALL, "--try"], "give --budget as well"),
        ([*SMALL, "--budget", "30", "--device", "cpu"], "give --try as well"),
        ([*SMALL, "--budget", "30", "--try", "--device", "cpu", "--semantics", "cuda"], "leave out --semantics"),
        ([*SMALL, "--budget", "30", "--try", "--device", "cpu", "--recipe", "bf16+flash"], "needs a CUDA GPU"),
        (["--study", "memory", "--try"], "leave out --try"),
        (["--study", "memory", "--batch-size", "8"], "leave out --batch-size"),
        (["--study", "stlm"], "recorded no memory"),
    ],
)
def test_what_cannot_be(capsys, options, sentence):
    assert main(["predict", *options]) == 2
    said = capsys.readouterr().err
    assert sentence in said.splitlines()[-1]
