"""Recorded results: the rows of runs that are too long, or too many, for a chapter, and how to run any of them again.

A row is one run of `train_from_text`: its whole configuration and that configuration's hash, the seed, the versions,
the machine, the date, and the metrics. Rows live in data/results/<study>.jsonl of a checkout; an installed package
carries the same files.

    from stlm_kit.studies import results
    row = results.recorded("chapter-03")[0]
    print(results.command(row))                          # the `stlm train` line of this row
    results.rerun(row)                                   # or the same run from Python: its metrics, to compare
    results.record("chapter-03", "cosine", steps=150)    # train and append a row
"""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any

from stlm_kit.errors import KitError, UsageError, near
from stlm_kit.identity import source_hash, versions
from stlm_kit.paths import atomic_write, project_dir


def recorded(study: str) -> list[dict[str, Any]]:
    """The rows of a study, in the order they were recorded.

    Raises UsageError (naming the near ones) where nothing is recorded under that name, KitError for a line that is no
    row.
    """
    path = next((folder / f"{study}.jsonl" for folder in _folders() if (folder / f"{study}.jsonl").is_file()), None)
    if path is None:
        known = sorted({file.stem for folder in _folders() for file in folder.glob("*.jsonl")})
        raise UsageError(f"Nothing is recorded under the name {study!r}.{near(study, known)}")
    rows = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            rows.append(row | {"configuration": dict(row["configuration"]), "metrics": dict(row["metrics"])})
        except (ValueError, KeyError, TypeError) as error:
            raise KitError(f"Line {number} of {path} is no result row; restore the file.") from error
    return rows


def rerun(row: dict[str, Any]) -> dict[str, Any]:
    """Train a row's configuration again, keeping nothing on disk; gives the metrics, as the row holds them."""
    from stlm_kit.pipeline import run_settings, train_from_text

    result = train_from_text(run_settings(**row["configuration"]), progress=False).result
    return {"loss": result["loss"], **result["validation"], "tokens": result["tokens"], "seconds": result["seconds"]}


def record(study: str, name: str, **settings: Any) -> dict[str, Any]:
    """Train `run_settings(**settings)` and append its row to the study's file in the checkout; gives the row.

    name: what the run is called within the study, without its seed. A configuration that is recorded already is not
    run again. Raises UsageError for an unknown setting.
    """
    import torch

    from stlm_kit.pipeline import run_settings
    from stlm_kit.studies.machine import describe_machine, now

    configuration = run_settings(**settings).model_dump(mode="json")
    key = {"study": study, "name": name, "hash": configuration_hash(configuration)}
    path = _folders()[0] / f"{study}.jsonl"
    before = recorded(study) if path.is_file() else []
    if known := [row for row in before if key.items() <= row.items()]:
        return known[0]
    row = {
        **key,
        "seed": configuration["seed"],
        "configuration": configuration,
        "source": source_hash(),
        "versions": versions(),
        "device": configuration["device"],
        "machine": describe_machine() | {"threads": torch.get_num_threads()},
        "date": now(),
        "metrics": rerun({"configuration": configuration}),
    }
    atomic_write(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in [*before, row]))
    return row


def configuration_hash(configuration: dict[str, Any]) -> str:
    """Ten hexadecimal digits that name a configuration, the seed included."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()[:10]


def command(row: dict[str, Any]) -> str:
    """The `stlm train` line that runs a row's configuration again; most settings at their default are left out."""
    from stlm_kit.options import NAMED
    from stlm_kit.pipeline import RunSettings

    words = ["stlm", "train"]
    for name, value in row["configuration"].items():
        default = RunSettings.model_fields[name].get_default(call_default_factory=True)
        if value == default and name not in ("preset", "corpus", "seed"):
            continue
        if name == "overrides":
            words += [part for field, chosen in value.items() for part in ("--set", f"{field}={chosen}")]
        elif name in (*NAMED, "learning_rate"):
            words += [f"--{name.replace('_', '-')}", str(value)]
        else:
            words += ["--set", f"{name}={value}"]
    return shlex.join([*words, "--run-dir", f"runs/{row['study']}/{row['name']}-{row['hash']}"])


def _folders() -> list[Path]:
    """Where rows may lie: the checkout's data/results, then the folder that an installed package carries."""
    return [project_dir() / "data" / "results", Path(__file__).resolve().parent.parent / "results"]
