"""Where the kit uses a setting that a source states: a field of a preset, or an entry of the study's own settings."""

from __future__ import annotations

from functools import reduce
from typing import Any

from stlm_kit.config import preset
from stlm_kit.errors import KitError
from stlm_kit.studies.packaged import read_yaml


def used_value(source: str, used_by: str) -> Any:
    """The value behind "preset:NAME.FIELD" or "study:settings.NAME" (of the claim's own study file).

    Raises KitError where nothing in the kit has that name, so that a setting cannot claim a user it does not have.
    """
    kind, _, path = used_by.partition(":")
    try:
        if kind == "preset":
            name, field = path.rsplit(".", 1)
            return getattr(preset(name), field)
        if kind == "study":
            return reduce(lambda place, key: place[key], path.split("."), read_yaml("stlm_kit.studies", source))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise KitError(
            f"{source}.yaml says that {used_by} uses a setting, and there is no such thing; name its user."
        ) from error
    raise KitError(f"{source}.yaml has used_by {used_by!r}; write preset:NAME.FIELD or study:settings.NAME.")
