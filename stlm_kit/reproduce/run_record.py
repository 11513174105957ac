"""The record in a run's folder, written by the process that executes the run.

It writes run.json at the beginning and at the end, and config.json and result.json where no training has written them.
"""

from __future__ import annotations

import json

from stlm_kit.paths import atomic_write, clear_parts
from stlm_kit.provenance import describe_machine, now
from stlm_kit.reproduce.rows import own_row
from stlm_kit.reproduce.run import FINISHED, Run

WRITTEN = ("run.json", "row.json", "config.json", "result.json")  # into the run's folder, by this process


def begin(run: Run, by: str = "stlm") -> None:
    """Create the run's folder and write the request. by: "stlm" (the runner), or "papermill" without the runner."""
    run.folder.mkdir(parents=True, exist_ok=True)
    for name in WRITTEN:
        clear_parts(run.folder / name)  # from a killed writer; this process holds the run
    run.write_record(
        study=run.study,
        name=run.name,
        notebook=run.notebook.name,
        hash=run.hash,
        profile=run.profile,
        parameters=run.parameters,
        labels=run.labels,
        identity=run.identity,
        machine=describe_machine(),
        status="running",
        started=now(),
        ended=None,
        seconds=None,
        sentence="",
        cell=None,
        line="",
        by=by,
    )


def end(run: Run, status: str, seconds: float, sentence: str = "", cell: int | None = None, line: str = "") -> str:
    """Record how the run ended, and return its final status.

    cell: which of the notebook's cells failed, from 1. line: that cell's first line of code. A study's run may itself
    report that memory ran out, which is a result; in a chapter it is a failure.
    """
    if run.is_chapter:
        status = "failed" if status == "out_of_memory" else status
    elif status == "done" and own_row(run.folder).get("status") == "out_of_memory":
        status = "out_of_memory"
    seconds = round(seconds, 2)
    if status in FINISHED:
        config = {"notebook": run.notebook.name, "profile": run.profile, "parameters": run.parameters, "hash": run.hash}
        for name, content in {"config.json": config, "result.json": {"status": status, "seconds": seconds}}.items():
            if not (run.folder / name).exists():
                atomic_write(run.folder / name, json.dumps(content, indent=1) + "\n")
    run.write_record(status=status, ended=now(), seconds=seconds, sentence=sentence, cell=cell, line=line)
    return status
