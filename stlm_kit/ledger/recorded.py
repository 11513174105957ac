"""Answers that a notebook or a run recorded, one small JSON file each."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from stlm_kit.errors import KitError, UsageError
from stlm_kit.ledger.claims import Evidence, find_claim
from stlm_kit.paths import atomic_write, runs_dir
from stlm_kit.reproduce.run import read_record


def record(claim_id: str, found: Any, how: str = "", *, by: Evidence | None = None, missing: str | None = None) -> Path:
    """Write one answer to a file, atomically: `<run>/ledger/<claim id>.json`.

    The run is $STLM_RUN_DIR where it is set, else runs/interactive. how: one sentence on how the value was found.

    Raises UsageError for an unknown claim, evidence or value. For a full-scale claim the answer must say that it was
    measured at the published size, and a laptop's run may not say so; otherwise UsageError.
    """
    claim = find_claim(claim_id)
    found = plain(found)
    if by is not None and by not in get_args(Evidence):
        raise UsageError(f"There is no evidence {by!r}; it is one of {', '.join(get_args(Evidence))}.")
    if claim.kind == "full_scale" and found is not None:
        _refuse_small_runs(claim_id, by)
    answer = {
        "id": claim_id,
        "found": found,
        "by": by,
        "missing": missing,
        "how": how,
        "time": datetime.now(UTC).isoformat(timespec="microseconds"),
    }
    return atomic_write(answers_dir() / f"{claim_id}.json", json.dumps(answer, indent=1, ensure_ascii=False) + "\n")


def _refuse_small_runs(claim_id: str, by: Evidence | None) -> None:
    """Refuse an answer to a full-scale claim, unless a run at the published size or a citation gives it."""
    if by is None:
        raise UsageError(
            f"The claim {claim_id} needs a run at the published size: pass by='measured' from one, or found=None."
        )
    if by == "measured" and read_record(answers_dir().parent).get("profile") == "laptop":
        raise UsageError(
            f"The claim {claim_id} needs a run at the published size, and this one is a laptop's; pass found=None."
        )


def plain(found: Any) -> Any:
    """`found` in the form that JSON keeps: numpy and torch scalars become Python's.

    NaN and infinity raise UsageError.
    """
    if isinstance(found, dict):
        return {str(key): plain(value) for key, value in found.items()}
    if isinstance(found, (list, tuple)):
        return [plain(value) for value in found]
    if hasattr(found, "item"):  # a numpy or torch scalar
        found = found.item()
    if isinstance(found, float) and not abs(found) < float("inf"):
        raise UsageError(f"found = {found} is no answer; record a finite number, or None while the claim is open.")
    if found is not None and not isinstance(found, (bool, int, float, str)):
        raise UsageError(f"found = {found!r} is no answer; record a number, a bool, a text, a list or None.")
    return found


def answers_dir() -> Path:
    """The folder where this process records its answers."""
    run = os.environ.get("STLM_RUN_DIR")
    return (Path(run) if run else runs_dir() / "interactive") / "ledger"


def recorded_answers() -> dict[str, dict]:
    """The latest answer that a notebook or a run recorded for each claim; {} before any run."""
    files = {*runs_dir().glob("*/ledger/*.json"), *runs_dir().glob("*/*/ledger/*.json"), *answers_dir().glob("*.json")}
    latest: dict[str, dict] = {}
    for path in sorted(files):
        try:
            answer = json.loads(path.read_text("utf-8"))
            claim_id, time = answer["id"], answer["time"]
        except (ValueError, KeyError, TypeError) as error:
            raise KitError(f"{path} is not an answer of the ledger; delete it and run its notebook again.") from error
        if claim_id not in latest or time > latest[claim_id]["time"]:
            latest[claim_id] = answer
    return latest


def latest_answers() -> dict[str, dict]:
    """The answer to each claim that was run: the latest row at the published size, else the latest recorded answer."""
    from stlm_kit.ledger.full_size import measured

    return recorded_answers() | {claim_id: found[-1] for claim_id, found in measured().answers.items()}
