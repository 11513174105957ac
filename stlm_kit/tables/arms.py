"""Arms: groups of a table's runs, each run once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stlm_kit.reproduce.study_file import FREE
from stlm_kit.tables.columns import Sample, differ_in, is_time, key, shown
from stlm_kit.tables.intervals import Estimate


@dataclass(frozen=True)
class Arm:
    """The runs that agree in the columns by which the table distinguishes arms, each run once."""

    values: dict[str, Any]  # {column: value}
    samples: list[Sample]

    @property
    def label(self) -> str:
        """The values in words, such as "flash, 128"."""
        return ", ".join(map(shown, self.values.values()))

    @property
    def out_of_memory(self) -> int:
        """How many of its runs ran out of memory."""
        return sum(not sample.done for sample in self.samples)

    def measured(self, metric: str) -> list[Sample]:
        """The runs that have a value of this metric."""
        return [sample for sample in self.samples if sample.value(metric) is not None]

    def places(self, metric: str) -> list[str]:
        """The machines on which its values were measured."""
        return sorted({sample.place for sample in self.measured(metric)})

    def mixed(self, metric: str) -> bool:
        """Whether its values are times of several machines, so that their mean is meaningless."""
        return is_time(metric) and len(self.places(metric)) > 1

    def estimate(self, metric: str) -> Estimate:
        """The mean and interval of a metric. It has no values where the arm has none, or times of several machines."""
        values = [] if self.mixed(metric) else [sample.value(metric) for sample in self.measured(metric)]
        return Estimate(tuple(values))


def arms_of(samples: Sequence[Sample], by: list[str]) -> tuple[list[Arm], int]:
    """(arms in order, how many rows repeat another row's run)."""
    groups: dict[str, dict[str, Sample]] = {}
    repeated = 0
    for sample in sorted(samples, key=lambda sample: (sample.done, sample.row.get("date") or "")):
        runs = groups.setdefault(key([sample.column(name) for name in by]), {})
        settings = {name: value for name, value in sample.settings.items() if name not in FREE}
        name = "" if sample.is_training else sample.row["name"]  # two names of one training are one run
        same = key([sample.row.get("profile"), name, settings])
        repeated += same in runs
        runs[same] = sample
    arms = [
        Arm({name: next(iter(runs.values())).column(name) for name in by}, list(runs.values()))
        for runs in groups.values()
    ]
    first = {id(sample): place for place, sample in enumerate(samples)}
    for arm in arms:
        arm.samples.sort(key=lambda sample: first[id(sample)])
    ranks = {name: _ranks(name, samples) for name in by}
    return sorted(arms, key=lambda arm: [ranks[name][key(value)] for name, value in arm.values.items()]), repeated


def _ranks(name: str, samples: Sequence[Sample]) -> dict[str, int]:
    """The order of a column's values: by size where all are numbers, else in order of appearance."""
    values = {key(sample.column(name)): sample.column(name) for sample in samples}
    if all(isinstance(value, (int, float)) for value in values.values()):
        values = dict(sorted(values.items(), key=lambda item: item[1]))
    return {name: rank for rank, name in enumerate(values)}


def left_to_vary(arms: list[Arm], by: list[str], over: list[str]) -> list[str]:
    """The columns in which runs of one arm differ: those averaged over, and those not used to distinguish arms."""
    samples = [sample for arm in arms for sample in arm.samples]
    settings = dict.fromkeys(name for sample in samples for name in sample.settings if name not in FREE)
    return [name for name in {**dict.fromkeys(over), **settings} if name in over or differ_in(samples, name, by)]
