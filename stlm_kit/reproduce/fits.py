"""Before a run at the published size starts: does it fit into the device's memory? Found by prediction, in seconds."""

from __future__ import annotations

from collections.abc import Iterable

from stlm_kit.errors import KitError
from stlm_kit.reproduce.request import RUN_NOTEBOOK
from stlm_kit.reproduce.run import Run


def refusals(runs: Iterable[Run]) -> dict[Run, str]:
    """The runs at mig20, not finished yet, that cannot fit, each with why not and what would, as one sentence.

    The budget is that of the device; without one (STLM_ALLOW_CPU=1) that of the slice that the profile is named for. A
    run whose text cannot be read is let go: it says so itself.
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
