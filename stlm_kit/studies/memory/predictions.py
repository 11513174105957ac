"""Predicted runs of a study: cells that are not run; each is predicted in a second and kept as a row.

A study lists them under `predicted:`, as grids of the same form as its runs (study.py). Parameters of a cell:

    preset, and any field of it to change (n_layers, vocab_size, window, ...)
    recipe, batch_size, context_length      as in a run
    padded: true                            the memory study's share of padding; without it every target is real
    whole_step: true                        including the update; without it, as the study measured, before the update

Rows are in data/results/<study>-predictions.jsonl, in the form of result rows. `source` is the hash of the modules that
a prediction uses. `stlm predict --study NAME --write` renews those that other code made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from stlm_kit.code_hash import rooms_hash
from stlm_kit.config import DecoderConfig
from stlm_kit.errors import KitError, UsageError, near
from stlm_kit.presets import preset
from stlm_kit.reproduce import results
from stlm_kit.reproduce.recheck import Checked
from stlm_kit.reproduce.recheck_rows import Outcome, Row
from stlm_kit.reproduce.study_file import FULL_SIZE, Study, load_study

# the modules that a prediction uses
ROOMS = ("config.py", "rope_scaling.py", "data/batches.py", "memory", "model", "training")
SIZES = ("peak_allocated_mib", "peak_reserved_mib", "after_forward_mib", "after_backward_mib")
OF_A_CELL = ("preset", "recipe", "batch_size", "context_length", "padded", "whole_step")


def cells(study: Study) -> dict[str, dict[str, Any]]:
    """{name: configuration} of a study's predicted cells, with the defaults filled in.

    UsageError for an unknown field.
    """
    found: dict[str, dict[str, Any]] = {}
    for grid in study.predicted:
        for name, given in grid.expand(FULL_SIZE).items():
            if name in found:
                raise KitError(f"The study {study.name} predicts {name!r} twice; rename one of the grids.")
            fields = {key: value for key, value in given.items() if key not in OF_A_CELL}
            if wrong := sorted(fields.keys() - DecoderConfig.model_fields.keys()):
                raise UsageError(
                    f"The predicted cell {name!r} has no parameter {wrong[0]!r}."
                    f"{near(wrong[0], [*OF_A_CELL, *DecoderConfig.model_fields])}"
                )
            asked = {key: given[key] for key in OF_A_CELL if key in given}
            found[name] = {"padded": False, "whole_step": False, **asked, "overrides": fields}
    return found


def predict(configuration: dict[str, Any]) -> dict[str, Any]:
    """One cell's sizes in MiB, on the study's device, with the parts of its peak. It takes at most 3 s."""
    from stlm_kit.memory import predict_peak
    from stlm_kit.studies.memory.padding import STUDY_DEVICE, STUDY_PADDING

    config = preset(configuration["preset"], **configuration["overrides"])
    report = predict_peak(
        config,
        configuration["recipe"],
        configuration["batch_size"],
        configuration.get("context_length", config.context_length),
        **(STUDY_PADDING._asdict() if configuration["padded"] else {}),
        span="step" if configuration["whole_step"] else "forward_backward",
        device=STUDY_DEVICE,
    )
    sizes = {name: round(getattr(report, name), 2) for name in SIZES}
    parts = {name: round(mib, 2) for name, mib in report.by_category.items()}
    largest = [[part["mib"], part["shape"], part["operation"]] for part in report.alive_at_peak[:3]]
    return {"kind": "predicted", **sizes, "by_category": parts, "peak_phase": report.peak_phase, "largest": largest}


def write_predictions(name: str, anew: bool = False) -> list[dict[str, Any]]:
    """Predict the cells of a study without a row or with one by other code (`anew`: all), and write its file.

    Raises UsageError for a study that lists no cells. Returns the rows.
    """
    study = load_study(name)
    if not study.predicted:
        raise UsageError(f"The study {study.name} lists nothing under `predicted:`, so there is nothing to write.")
    path = predictions_file(study.name)
    known = {row["name"]: row for row in results.read_rows(path)} if path.is_file() and not anew else {}
    rows = []
    for cell, configuration in cells(study).items():
        row = known.get(cell)
        if row is None or row["configuration"] != configuration or row["source"] != rooms_hash(ROOMS):
            row = results.new_row(path.stem, cell, configuration, predict(configuration), rooms=ROOMS)
        rows.append(row)
    results.change_rows(path, lambda _: rows)
    predicted.cache_clear()
    return rows


def predictions_file(name: str) -> Path:
    """The file with the predicted rows of a study, in data/results of the checkout."""
    return results.checkout_folder() / f"{name}-predictions.jsonl"


@cache
def predicted(name: str) -> dict[str, dict[str, Any]]:
    """{cell: its sizes in MiB} as kept; {} where nothing is. KitError for a line that is not a row."""
    return {row["name"]: row["metrics"] for row in results.rows_of(f"{name}-predictions")}


def recheck(rows: list[Row]) -> Iterator[Outcome]:
    """Predict each cell again that other code made, and compare."""
    held = []
    for row in rows:
        if row["source"] == rooms_hash(ROOMS):
            continue
        if json.loads(json.dumps(predict(row["configuration"]))) == row["metrics"]:
            held.append(row)
        else:
            study = row["study"].removesuffix("-predictions")
            sentence = f"it is predicted otherwise; `stlm predict --study {study} --write` makes it anew."
            yield Checked([row["name"]], "stale", sentence), [], ""
    if held:
        yield Checked([row["name"] for row in held], "holds", "each is predicted the same."), held, rooms_hash(ROOMS)
