"""Columns of result rows: the names by which runs can be grouped, and which of these distinguish the given rows.

A column is a label of the study's grid, a setting of the configuration, a field that overrides the preset's, or one of
name, study, profile, device, place (device and machine) and from (the study or file of the row). If a label and a
setting have the same name, the setting counts, because `-p` may have changed it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stlm_kit.presets import PRESETS
from stlm_kit.reproduce.study_file import FREE

TIME = re.compile(r"(^|_)(seconds?|s|hours?)(_|$)|per_second|slowdown")


@dataclass(frozen=True, eq=False)
class Sample:
    """One result row and its origin."""

    row: dict[str, Any]
    origin: str = ""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The configuration, with the overridden fields of the preset.

        A text given by path is represented by its content.
        """
        configuration = self.row["configuration"]
        found = {**configuration, **(configuration.get("overrides") or {})}
        found.pop("overrides", None)
        for name, content in ((self.row.get("asked") or {}).get("contents") or {}).items():
            if isinstance(found.get(name), str):
                found[name] = f"{Path(found[name]).name} ({content[:6]})"
        return found

    @cached_property
    def columns(self) -> dict[str, Any]:
        """{name: value} of all its columns, in the order in which they distinguish rows; see `column`."""
        own = {name: self.row.get(name) for name in ("study", "name", "profile", "device")}
        first = {"from": self.origin, **own, "place": self.place, "seed": self.row.get("seed")}
        labels = self.row.get("labels") or {}
        return {**labels, **first, **{name: v for name, v in self.settings.items() if name not in first}}

    def column(self, name: str) -> Any:
        """The value of a column. For a field that this run does not override, the preset's value; None without one."""
        if name in self.columns:
            return self.columns[name]
        entry = PRESETS.get(self.row["configuration"].get("preset"))
        return getattr(entry.config, name, None) if entry and name in type(entry.config).model_fields else None

    @cached_property
    def place(self) -> str:
        """Where it ran, with everything that makes its times comparable: device, processor or GPU, threads, cores."""
        device, machine, numbers = self.row.get("device"), self.row.get("machine") or {}, self.row["metrics"]
        facts = {name: numbers.get(name, machine.get(name)) for name in ("threads", "multiprocessors")}
        if device in (None, "cpu"):
            device = machine.get("processor") or "an unnamed processor"
            facts = {"threads": facts["threads"], "cores": machine.get("cores")}
        return ", ".join([str(device), *(f"{value} {name}" for name, value in facts.items() if value)])

    def value(self, metric: str) -> float | None:
        """One of its numbers. None where it has none of this name, and for a run that ran out of memory."""
        found = self.row["metrics"].get(metric)
        usable = isinstance(found, (int, float)) and not isinstance(found, bool) and self.done
        return float(found) if usable else None

    @property
    def done(self) -> bool:
        """Whether the run finished, and did not run out of memory."""
        return self.row.get("status", "done") == "done"

    @property
    def is_training(self) -> bool:
        """Whether its configuration is that of a training run, which contains everything that changes its numbers."""
        return {"preset", "steps"} <= self.row["configuration"].keys()


def is_time(metric: str) -> bool:
    """Whether a metric depends on the machine, such as seconds, tokens_per_second and step_s_median."""
    return TIME.search(metric) is not None


def key(value: Any) -> str:
    """A text by which values of any JSON type can be compared."""
    return json.dumps(value, sort_keys=True, default=str)


def shown(value: Any) -> str:
    """A column's value in the form of a table."""
    if isinstance(value, float):
        return f"{value:g}"
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def names_of(samples: Iterable[Sample]) -> list[str]:
    """The columns of these rows, each once."""
    return list(dict.fromkeys(name for sample in samples for name in sample.columns))


def differ_in(samples: Sequence[Sample], name: str, within: Sequence[str] = ()) -> bool:
    """Whether rows that agree in the columns `within` differ in this column."""
    seen: dict[str, str] = {}
    for sample in samples:
        group = key([sample.column(other) for other in within])
        if seen.setdefault(group, key(sample.column(name))) != key(sample.column(name)):
            return True
    return False


def follows_from(samples: Sequence[Sample], name: str, over: Sequence[str]) -> bool:
    """Whether a column is determined by those averaged over, such as steps by batch_size where an axis sets both.

    Seeds determine nothing: a setting that differs with them does so by chance.
    """
    if over == ["seed"] and not any("seed" in (sample.row.get("labels") or {}) for sample in samples):
        return False
    return not differ_in(samples, name, over)


def telling_apart(samples: Sequence[Sample], over: Sequence[str]) -> list[str]:
    """The columns that distinguish arms by default: the fewest, starting with the first one that differs.

    The order is: the origin of the rows, then the labels of their grid (or the names, where a row has no labels), then
    settings that differ between rows that agree in all these. Columns that are averaged over, or determined by those,
    are never used.
    """
    labelled = all(sample.row.get("labels") for sample in samples)
    labels = list(dict.fromkeys(name for sample in samples for name in sample.row.get("labels") or {}))
    settings = dict.fromkeys(name for sample in samples for name in sample.settings)
    chosen: list[str] = []
    for name in ["from", "profile", *(labels if labelled else ["name"]), *settings]:
        free = name in FREE and name not in labels
        if name in over or free or name in chosen or not differ_in(samples, name, chosen):
            continue
        if not follows_from(samples, name, over):
            chosen.append(name)
    return chosen or ["name"]
