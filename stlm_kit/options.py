"""Command-line options to RunSettings: `--set NAME=VALUE` reaches every setting and every field of the preset."""

from __future__ import annotations

import argparse
import types
import typing
from typing import Any

import yaml

from stlm_kit.config import DecoderConfig
from stlm_kit.errors import UsageError, near
from stlm_kit.train_from_text import RunSettings, run_settings

NAMED = ["preset", "corpus", "tokenizer", "recipe", "device", "steps", "batch_size", "context_length", "seed"]


def settings_from_options(options: argparse.Namespace) -> RunSettings:
    """The run that `stlm train`'s options ask for; UsageError names an option that does not fit."""
    values = {name: getattr(options, name) for name in [*NAMED, "learning_rate"]}
    values = {name: value for name, value in values.items() if value is not None}
    overrides: dict[str, Any] = {}
    settable = [name for name in RunSettings.model_fields if name != "overrides"]
    for text in options.set:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise UsageError(f"--set takes NAME=VALUE, and {text!r} has no '='.")
        if name in settable:
            values[name] = parse_value(value, RunSettings.model_fields[name].annotation)
        elif name in DecoderConfig.model_fields:
            overrides[name] = parse_value(value, DecoderConfig.model_fields[name].annotation)
        else:
            known = [*settable, *DecoderConfig.model_fields]
            raise UsageError(f"There is nothing to set under the name {name!r}.{near(name, known)}")
    return run_settings(**values, overrides=overrides)


def overrides(texts: list[str]) -> dict[str, Any]:
    """Fields of a preset from texts of the form NAME=VALUE; UsageError for another form or name."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise UsageError(f"--set takes NAME=VALUE, and {text!r} has no '='.")
        if name not in DecoderConfig.model_fields:
            raise UsageError(f"A decoder has no setting named {name!r}.{near(name, DecoderConfig.model_fields)}")
        found[name] = parse_value(value, DecoderConfig.model_fields[name].annotation)
    return found


def parse_value(text: str, annotation: Any) -> Any:
    """The value a piece of text stands for, as YAML reads it; kept as text where a text is wanted."""
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
            return text  # let validation name the field
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
