"""From a cell of a study's grid to the parameters of notebooks/run.ipynb: one dictionary of settings, checked."""

from __future__ import annotations

from typing import Any

from stlm_kit.errors import UsageError
from stlm_kit.options import settings_from, values_from
from stlm_kit.reproduce.parameters import check
from stlm_kit.reproduce.study_file import FREE

OF_THE_RUN = ("measure_memory",)  # what is no setting of the training; the notebook declares it beside them

ANOTHER_SAMPLE = {"seed", *FREE}  # another seed or device is another sample of the same run

# What a run has where its study says nothing: a GPU where there is one, and on a laptop a score that takes seconds.
ASSUMED = {"laptop": {"device": "auto", "eval_documents": 3}, "mig20": {"device": "auto"}}


def run_parameters(cell: dict[str, Any], profile: str, given: dict[str, Any] | None = None) -> dict[str, Any]:
    """{"profile", "settings", and options of the run} for a cell of a study; `given` (from `-p`) wins over the cell.

    A value may be written as text, as `-p` and YAML's 1e-3 are. Raises UsageError, one sentence, for an unknown name,
    a wrong type, or settings that do not fit each other, before anything runs.
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
    """How a row's configuration differs from what a cell asks for, as a clause on the first setting; "" if it does not.

    Both as today's `RunSettings` in JSON: what the kit had no setting for has its default. Seed, device and
    checkpoints do not count. Raises UsageError where today's kit knows a setting of the row no more.
    """
    from stlm_kit.train_from_text import run_settings

    asked = settings_from(run_parameters(cell, profile)["settings"]).model_dump(mode="json")
    ran = run_settings(**configuration).model_dump(mode="json")
    for name in sorted(asked.keys() - ANOTHER_SAMPLE):
        if ran[name] != asked[name]:
            return f"its {name} is {ran[name]!r}, and the study asks for {asked[name]!r}"
    return ""
