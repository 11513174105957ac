"""The YAML files that the package itself carries: each is read once a process."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import yaml

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # eight times as fast, where PyYAML was built with libyaml


@cache
def read_yaml(package: str, name: str) -> Any:
    """The content of `name`.yaml in a package of the kit, such as "stlm_kit.studies"; do not change it."""
    return yaml.load(resources.files(package).joinpath(f"{name}.yaml").read_text("utf-8"), Loader)
