"""Settings by name: a flat {name: value} covers every setting of a run and every field of its preset.

`stlm train` and `stlm predict` (--set and their own options), a study's runs, `-p` and notebooks/run.ipynb all use this
module, so a name means the same everywhere.
"""

from __future__ import annotations

import argparse
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from stlm_kit.config import DecoderConfig
from stlm_kit.errors import UsageError, near
from stlm_kit.presets import preset, preset_entry
from stlm_kit.train_from_text import RunSettings, run_settings

# The settings with an option of their own in `stlm train`; --set covers the others.
NAMED = ["preset", "corpus", "tokenizer", "recipe", "device", "steps", "batch_size", "context_length", "seed"]
NAMED += ["learning_rate", "eval_documents"]


def settable(config: type = DecoderConfig) -> dict[str, FieldInfo]:
    """{name: field} of everything that can be set: a run's own settings, and the fields of a preset's configuration."""
    own = {name: field for name, field in RunSettings.model_fields.items() if name != "overrides"}
    return {**config.model_fields, **own}


def settings_from(flat: Mapping[str, Any], texts: bool = False) -> RunSettings:
    """The run for a flat {name: value}: its own settings, and everything else as overrides of its preset.

    texts: values may be text ("3", "1e-3", "none"), as on a command line or in YAML. Raises UsageError with one
    sentence for an unknown name (with similar ones), a wrong type, a value out of range, or values in conflict.
    """
    values = values_from(flat) if texts else dict(flat)
    config = type(preset_entry(values.get("preset", RunSettings.model_fields["preset"].default)).config)
    known = settable(config)
    for name in values:
        if name not in known:
            raise UsageError(f"There is nothing to set under the name {name!r}.{near(name, known)}")
    overrides = {name: value for name, value in values.items() if name not in RunSettings.model_fields}
    own = {name: value for name, value in values.items() if name in RunSettings.model_fields}
    settings = run_settings(**own, overrides=overrides)
    preset(settings.preset, **{"context_length": settings.context_length, **overrides})  # raises where they conflict
    return settings


def values_from(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The same names with each text parsed as a value. An unknown name keeps its text."""
    name = flat.get("preset", RunSettings.model_fields["preset"].default)
    known = settable(type(preset_entry(name).config))
    values = {
        name: parse_value(value, known[name].annotation) if isinstance(value, str) and name in known else value
        for name, value in flat.items()
    }
    if isinstance(values.get("separator"), str):
        values["separator"] = with_escapes(values["separator"])
    return values


def with_escapes(text: str) -> str:
    """A text in which \\n, \\t, \\r and \\\\ become a newline, a tab, a carriage return and a backslash.

    A shell passes these characters as typed, and a newline is hard to type there.
    """
    meant = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
    return re.sub(r"\\([ntr\\])", lambda found: meant[found[1]], text)


def parse_pairs(texts: Iterable[str], option: str = "--set") -> dict[str, str]:
    """{name: text} of NAME=VALUE, with "-" in a name read as "_". UsageError where "=" or the name is missing."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"{option} takes NAME=VALUE, and {text!r} has no '=' with a name before it.")
        found[name.strip().replace("-", "_")] = value
    return found


def settings_from_options(options: argparse.Namespace) -> RunSettings:
    """The run for `stlm train`'s options. UsageError names an option that is wrong."""
    given = {name: value for name, value in vars(options).items() if name in RunSettings.model_fields}
    values = {name: value for name, value in given.items() if value is not None}
    return settings_from({**values, **parse_pairs(options.set)}, texts=True)


def parse_value(text: str, annotation: Any) -> Any:
    """The value of a text as YAML reads it. It stays text where the annotation is a text."""
    union = typing.get_origin(annotation) in (types.UnionType, typing.Union)  # Annotated[...] | None is a typing.Union
    wanted = set(typing.get_args(annotation)) if union else {annotation}
    if text.strip().lower() in {"none", "null"} and type(None) in wanted:
        return None
    if str in wanted or any(typing.get_origin(kind) is typing.Literal for kind in wanted):
        return text
    if float in wanted:  # YAML reads 1e-3 as text
        try:
            return float(text)
        except ValueError:
            return text  # validation names the field
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
