"""CONTRIBUTING.md's examples, followed to the letter."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

PAGE = Path(__file__).parent.parent / "CONTRIBUTING.md"


def example(kind: str) -> str:
    found = re.search(rf"^```\w+ {kind}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"CONTRIBUTING.md has no example of a {kind}"
    return found[1]


def test_a_claim():
    from stlm_kit import preset
    from stlm_kit.ledger import Claim, verdict

    claim = Claim(source="stlm", **yaml.safe_load(example("claim")))
    found = 24 * 20 * preset("stlm-50m").context_length
    assert verdict(claim, found) == "exact"
    assert verdict(claim, found + 1) == "contradicted"


def test_a_recipe():
    exec(example("recipe"), {})


def test_a_loss_and_a_kind_of_model():
    import torch

    import stlm_kit as kit
    from stlm_kit.config import CONFIGS
    from stlm_kit.model.kinds import MODELS

    loss, kind = {}, {}
    exec(example("loss"), loss)
    exec(example("kind"), kind)
    try:

        def batches(seed, number):
            ids = torch.randint(0, 257, (2, 9), generator=torch.Generator().manual_seed(0))  # always the same
            return kit.Batch(ids[:, :-1], ids[:, 1:])

        batches.description = "random"
        model, settings = kind["model"], kit.TrainingSettings(steps=20, learning_rate=0.03, recipe="fp32+chunked")
        first = kit.train(model, batches, settings, progress=False)
        assert first.losses[-1] < first.losses[0]
        trained = kit.train(model, batches, settings, loss=loss["z_loss"], progress=False)
        assert trained.losses[-1] < trained.losses[0] and all(row["z_loss"] > 0 for row in trained.metrics)
        assert len(kit.generate(model, kit.load_tokenizer("bytes"), "a", max_new_tokens=3, stop_at_end=False)) > 1
    finally:
        del CONFIGS["bigram"], MODELS[kind["BigramConfig"]]


def test_a_teacher():
    exec(example("teacher"), {})


def test_a_study(tmp_path):
    from stlm_kit.reproduce.study_file import load_study

    path = tmp_path / "example.yaml"
    path.write_text(example("study"))
    runs = load_study(path).expand("laptop")
    assert list(runs) == ["fp32-b4", "fp32-b8", "bf16-b4", "bf16-b8"]
    from stlm_kit.reproduce.study_runs import run_parameters

    for parameters in runs.values():
        assert run_parameters(parameters, "laptop")["settings"]["steps"] == 10
    assert load_study(path).name == "example"


def test_results(tmp_path, monkeypatch, capsys):
    from stlm_kit.cli import build_parser, main

    monkeypatch.setenv("STLM_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    commands = [shlex.split(line)[1:] for line in example("results").splitlines()]
    for command in commands:
        if command[1].endswith(".yaml"):  # of rows that the reader makes
            assert build_parser().parse_args(command).over == ["seed", "split_seed"]
        else:
            assert main(command) == 0, capsys.readouterr().err
    assert (tmp_path / "schedules.png").stat().st_size > 5000
    assert r"\midrule" in capsys.readouterr().out


def test_a_chapter(tmp_path, monkeypatch):
    import jupytext
    import nbformat
    import papermill

    from stlm_kit.practice.student_copy import practice_copy, put_back
    from stlm_kit.practice.turns import groups
    from stlm_kit.reproduce.parameters import check, declared

    monkeypatch.setenv("STLM_RUNS", str(tmp_path / "runs"))
    path = tmp_path / "15_an_example.ipynb"
    book = jupytext.reads(example("chapter"), fmt="py:light")
    book.metadata.kernelspec = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }  # as JupyterLab does
    nbformat.write(book, path)
    assert {"profile", "seed"} <= set(declared(path))
    assert check({"seed": "3"}, declared(path)) == {"seed": 3}
    executed = papermill.execute_notebook(
        path, tmp_path / "out.ipynb", {"seed": 3}, kernel_name="python3", progress_bar=False
    )
    assert "same: two numbers" in str(executed.cells[-1].outputs)

    [(check_at, [turn])] = groups(book.cells).items()
    assert (turn.label, turn.n_lines, turn.hint) == ("count", 1, "The first number counts as one.")
    practice = practice_copy(book, "15_an_example")
    assert sum(cell.source.startswith("%%check count") for cell in practice.cells) == 1 and check_at
    assert [cell.source for cell in put_back(practice).cells] == [cell.source for cell in book.cells]


def test_the_readme_lists_every_chapter():
    chapters = sorted(PAGE.parent.glob("notebooks/[0-9]*.ipynb"))
    readme = (PAGE.parent / "README.md").read_text()
    assert chapters
    missing = [path.name for path in chapters if path.name not in readme]
    if missing:
        pytest.fail(f"README.md's table lacks {', '.join(missing)}; add a line for each.")
