"""Check, by prediction and in seconds, that a run at the published size fits into the device's memory."""

from __future__ import annotations

from collections.abc import Iterable

from stlm_kit.errors import KitError
from stlm_kit.reproduce.request import RUN_NOTEBOOK
from stlm_kit.reproduce.run import Run


def refusals(runs: Iterable[Run]) -> dict[Run, str]:
    """{run: why it cannot fit and what would fit, as one sentence} for unfinished runs at mig20.

    The budget is the device's. Without a device (STLM_ALLOW_CPU=1) it is that of the slice that the profile is named
    for. A run whose text cannot be read is skipped here; it reports that error itself.
    """
    asked = [run for run in runs if run.profile == "mig20" and run.notebook.name == RUN_NOTEBOOK and not run.finished]
    if not asked:
        return {}
    from stlm_kit.memory.budget import device_budget, find_budget
    from stlm_kit.reproduce.cost import refusal, work_of

    budget = device_budget() or find_budget("mig-20gb")
    found = {}
    for run in asked:
        try:
            why = refusal(work_of(run, fetch=True), budget.mib)
        except KitError:
            continue
        if why:
            found[run] = why
    return found
