"""From a cell of a study's grid to the parameters of notebooks/run.ipynb: one dictionary of checked settings."""

from __future__ import annotations

from typing import Any

from stlm_kit.errors import UsageError
from stlm_kit.options import settings_from, values_from
from stlm_kit.reproduce.parameters import check
from stlm_kit.reproduce.study_file import FREE

OF_THE_RUN = ("measure_memory",)  # not a setting of the training; the notebook declares it separately

ANOTHER_SAMPLE = {"seed", *FREE}  # another seed or device is another sample of the same run

# The defaults of a study's run: a GPU where there is one and, on a laptop, an evaluation that takes seconds.
ASSUMED = {"laptop": {"device": "auto", "eval_documents": 3}, "mig20": {"device": "auto"}}


def run_parameters(cell: dict[str, Any], profile: str, given: dict[str, Any] | None = None) -> dict[str, Any]:
    """{"profile", "settings", and options of the run} for a cell of a study. `given` (from `-p`) overrides the cell.

    A value may be text, as `-p` and YAML's 1e-3 are. Raises UsageError with one sentence for an unknown name, a wrong
    type, or settings in conflict, before anything runs.
    """
    together = {**cell, **(given or {})}
    for name in ("profile", "study", "run_name", "settings"):
        if name in together:
            raise UsageError(f"{name!r} is not for a study's run to set; leave it out.")
    options = check({name: together.pop(name) for name in OF_THE_RUN if name in together})
    settings = values_from({**ASSUMED[profile], **together})
    settings_from(settings)
    return {"profile": profile, **options, "settings": settings}


def differs_in(configuration: dict[str, Any], cell: dict[str, Any], profile: str) -> str:
    """How a row's configuration differs from a cell's, as a clause on the first differing setting, or "".

    Both are compared as today's `RunSettings` in JSON; a setting that is missing in the row has its default. Seed,
    device and checkpoints do not count. Raises UsageError where the row has a setting that no longer exists.
    """
    from stlm_kit.train_from_text import run_settings

    asked = settings_from(run_parameters(cell, profile)["settings"]).model_dump(mode="json")
    ran = run_settings(**configuration).model_dump(mode="json")
    for name in sorted(asked.keys() - ANOTHER_SAMPLE):
        if ran[name] != asked[name]:
            return f"its {name} is {ran[name]!r}, and the study asks for {asked[name]!r}"
    return ""
