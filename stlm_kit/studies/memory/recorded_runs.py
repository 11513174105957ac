"""The memory study's 18 runs: the prediction for each beside what the study recorded and published, in MiB."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from stlm_kit.errors import UsageError
from stlm_kit.ledger.answers import evidence
from stlm_kit.ledger.survey import load_claims
from stlm_kit.memory import predict_peak
from stlm_kit.memory.report import MemoryReport
from stlm_kit.progress import Waiting
from stlm_kit.reproduce.trace_cache import kept
from stlm_kit.studies.memory.padding import STUDY_DEVICE, STUDY_PADDING, recorded_step


@dataclass(frozen=True)
class Cell:
    """One run. `error` is the prediction's, relative to the recorded value. Sizes are means over steps, in MiB."""

    technique: str
    batch_size: int
    predicted_mib: float
    recorded_mib: float
    published_mib: float
    error: float
    recipe: str
    window: int | None
    after_forward_predicted_mib: float
    after_forward_recorded_mib: float
    after_forward_error: float
    reserved_predicted_mib: float

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dict, for JSON."""
        return asdict(self)


def study_cells(study: str = "memory", waiting: Waiting | None = None) -> list[Cell]:
    """Predict every run that a study recorded. UsageError for a study that recorded no memory."""
    if study != "memory":
        raise UsageError(f"The study {study!r} recorded no memory to compare with; --study takes memory.")
    published = {
        claim.setting["run"]: claim.value
        for claim in load_claims(study)
        if claim.id.endswith(".peak_mb") and "run" in (claim.setting or {})
    }
    runs = evidence(study)["runs"].items()
    return [_cell(name, run, published[name]) for name, run in (waiting.over(runs, "run") if waiting else runs)]


def _cell(name: str, run: dict[str, Any], published: float) -> Cell:
    step = recorded_step(run)
    report = kept(MemoryReport, predict_peak, *step, *STUDY_PADDING, device=STUDY_DEVICE)
    return Cell(
        technique=name.rsplit("_", 1)[0],
        batch_size=run["batch_size"],
        predicted_mib=round(report.peak_allocated_mib, 2),
        recorded_mib=run["peak_mib"],
        published_mib=published,
        error=report.peak_allocated_mib / run["peak_mib"] - 1,
        recipe=step.recipe,
        window=run["window"],
        after_forward_predicted_mib=round(report.after_forward_mib, 2),
        after_forward_recorded_mib=run["after_forward_mib"],
        after_forward_error=report.after_forward_mib / run["after_forward_mib"] - 1,
        reserved_predicted_mib=round(report.peak_reserved_mib, 2),
    )
