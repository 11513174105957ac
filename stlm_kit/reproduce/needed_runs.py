"""Runs that need another run of their study: a student its teacher, a fine-tuning the model that it starts from.

In a study file such a setting names the run, as `teacher: "run:teacher"` or `init_from: "run:pretrained"`. The needed
run is executed first. In a row the setting stays "run:teacher", and its weights count by their hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stlm_kit.errors import UsageError, near

if TYPE_CHECKING:
    from stlm_kit.reproduce.run import Run

PREFIX = "run:"
SETTINGS = ("teacher", "init_from")  # the settings that may name a run


def names_a_run(parameter: str, value: Any) -> bool:
    """Whether a setting names a run of the same study."""
    return parameter in SETTINGS and isinstance(value, str) and value.startswith(PREFIX)


def needed_names(settings: Mapping[str, Any]) -> dict[str, str]:
    """{setting: name of the run} for the settings that name one."""
    return {name: value[len(PREFIX) :] for name, value in settings.items() if names_a_run(name, value)}


def tied(runs: list[Run]) -> list[Run]:
    """The runs of a study, in the same order, each with the runs that it needs.

    UsageError for an unknown run, and for runs that need each other.
    """
    by_name = {run.name: run for run in runs}
    done: dict[str, Run] = {}

    def tie(run: Run, above: tuple[str, ...]) -> Run:
        if run.name in done:
            return done[run.name]
        if run.name in above:
            raise UsageError(f"{run.name} needs itself ({' needs '.join([*above, run.name])}); change one of them.")
        needs = {}
        for setting, name in needed_names(run.parameters.get("settings", {})).items():
            if name not in by_name:
                raise UsageError(
                    f"{setting} of {run.name} is {PREFIX}{name}, and the study has no such run at the profile "
                    f"{run.profile}.{near(name, by_name)}"
                )
            needs[setting] = tie(by_name[name], (*above, run.name))
        done[run.name] = replace(run, needs=needs) if needs else run
        return done[run.name]

    return [tie(run, ()) for run in runs]
