"""A table of result rows: runs grouped into arms, their means with intervals, and differences from one arm.

    rows -> arms (distinguished by some columns, averaged over others, such as the seed) -> means, paired differences

- Two rows with the same settings, including the seed, are one run made twice. The latest counts, but a finished one
  takes precedence over one that ran out of memory.
- Means are arithmetic, also of perplexities. `--metric loss` gives the mean of the logarithm.
- A difference is taken between runs that agree in all columns except those that distinguish arms. A run without a
  partner is named and left out of the difference.
- A time is averaged or compared only where device and machine are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from stlm_kit.errors import KitError, UsageError, near
from stlm_kit.tables.arms import Arm, arms_of, left_to_vary
from stlm_kit.tables.columns import Sample, follows_from, is_time, key, names_of, shown, telling_apart
from stlm_kit.tables.intervals import Estimate, holm

SCORES = ("bits_per_byte", "perplexity")  # the metrics of a table by default
MANY = 4  # how many names a note has; the rest are counted


@dataclass(frozen=True)
class Difference:
    """An arm minus the arm it is compared with, over pairs of runs. alone: runs of either arm without a partner."""

    arm: Arm
    reference: Arm
    metric: str
    estimate: Estimate
    alone: list[str]
    p_holm: float | None = None


@dataclass(frozen=True)
class Table:
    """Arms in order, their estimates, and notes."""

    by: list[str]
    over: list[str]
    metrics: list[str]
    arms: list[Arm]
    differences: list[Difference]
    notes: list[str] = field(default_factory=list)

    @cached_property
    def estimates(self) -> dict[tuple[int, str], Estimate]:
        """{(place of the arm, metric): estimate}."""
        return {(i, metric): arm.estimate(metric) for i, arm in enumerate(self.arms) for metric in self.metrics}

    @property
    def panels(self) -> dict[str, list[tuple[str, Estimate]]]:
        """{metric: [(arm, estimate), ...]}, the form that plots.estimates draws."""
        return {
            metric: [(arm.label, self.estimates[i, metric]) for i, arm in enumerate(self.arms)]
            for metric in self.metrics
        }


def tabulate(
    samples: Sequence[Sample],
    metrics: Sequence[str] = (),
    by: Sequence[str] = (),
    over: Sequence[str] = ("seed",),
    against: str | None = None,
) -> Table:
    """The table of these rows.

    metrics: default bits_per_byte and perplexity where the rows have them, else the loss. by: default the columns of
    `telling_apart`. against: an arm as the table prints it, one of its values, or COLUMN=VALUE, several separated by
    commas. Where that leaves columns open, each arm is compared with the arm that agrees with it in these columns.

    Raises UsageError for an unknown metric, column or arm, KitError where no row has a number.
    """
    over = list(dict.fromkeys(over))
    _must_be_columns([*by, *over], samples)
    if both := [name for name in by if name in over]:
        raise UsageError(f"{both[0]!r} cannot both tell arms apart and be averaged over; name it once.")
    metrics = _metrics(samples, metrics)
    by = list(dict.fromkeys(by)) or telling_apart(samples, over)
    arms, repeated = arms_of(samples, by)
    rest = left_to_vary(arms, by, over)
    shown_arms = [arm for arm in arms if arm.out_of_memory or any(arm.measured(metric) for metric in metrics)]
    differences = [] if against is None else _differences(shown_arms, against, metrics, rest, over)
    table = Table(by, over, metrics, shown_arms, differences)
    table.notes.extend(_notes(table, len(arms) - len(shown_arms), repeated, rest))
    return table


def _must_be_columns(names: Sequence[str], samples: Sequence[Sample]) -> None:
    known = names_of(samples)
    for name in names:
        if name not in known and all(sample.column(name) is None for sample in samples):
            raise UsageError(f"The rows have no column {name!r}.{near(name, known) or ' It may be a metric.'}")


def _metrics(samples: Sequence[Sample], asked: Sequence[str]) -> list[str]:
    """The requested metrics, or the default ones."""
    numbers = {name for sample in samples for name in sample.row["metrics"] if sample.value(name) is not None}
    for name in asked:
        if name not in numbers:
            others = near(name, numbers) or f" They have {', '.join(sorted(numbers)) or 'none'}."
            raise UsageError(f"No row has a metric named {name!r}.{others}")
    if not numbers:
        lost = sum(not sample.done for sample in samples)
        why = "every run ran out of memory" if lost == len(samples) else "no row holds a number"
        raise KitError(f"There is nothing to average: {why}; make runs that fit, or name other rows.")
    usual = [name for name in SCORES if name in numbers] or [name for name in ("loss",) if name in numbers]
    if not (asked or usual):
        raise UsageError(f"The rows have no score; choose with --metric among {', '.join(sorted(numbers))}.")
    return list(dict.fromkeys(asked)) or usual


# --- differences ---


def _differences(
    arms: list[Arm], against: str, metrics: list[str], rest: list[str], over: list[str]
) -> list[Difference]:
    fixed = reference_of(arms, against)
    found = []
    for metric in metrics:
        compared = []
        for arm in arms:
            wanted = {**arm.values, **fixed}
            reference = next((other for other in arms if key(other.values) == key(wanted)), None)
            if reference and reference is not arm:
                compared.append((arm, reference, *_paired(arm, reference, metric, rest, over)))
        adjusted = holm([estimate.p for _, _, estimate, _ in compared])
        found += [
            Difference(arm, reference, metric, estimate, alone, p)
            for (arm, reference, estimate, alone), p in zip(compared, adjusted, strict=True)
        ]
    if not found:
        raise UsageError(f"There is nothing to compare with {against!r}: no other arm is left.")
    return found


def reference_of(arms: list[Arm], against: str) -> dict[str, Any]:
    """The column values of the arm to compare with, from a user's text; see `tabulate`.

    UsageError with similar names where no arm matches, or where a value occurs in several columns.
    """
    for arm in arms:
        if against.strip() == arm.label:
            return arm.values
    fixed: dict[str, Any] = {}
    for part in (part.strip() for part in against.split(",")):
        name, equals, text = part.partition("=")
        meant = {
            (column, key(value)): value
            for arm in arms
            for column, value in arm.values.items()
            if (column == name and shown(value) == text if equals else shown(value) == part)
        }
        if equals and name not in arms[0].values:
            told = near(name, arms[0].values) or f" Its columns are {', '.join(arms[0].values)}; --by adds others."
            raise UsageError(f"The table has no column {name!r} to compare by.{told}")
        if not meant:
            options = {shown(value): 0 for arm in arms for value in arm.values.values()}
            options |= {f"{column}={shown(value)}": 0 for arm in arms for column, value in arm.values.items()}
            told = near(part, [*(arm.label for arm in arms), *options])
            raise UsageError(f"No arm is {part!r}.{told or f' The arms are {listed([arm.label for arm in arms])}.'}")
        if len(meant) > 1:
            ways = " or ".join(f"{column}={part}" for column, _ in meant)
            raise UsageError(f"{part!r} may mean several arms; write {ways}.")
        (column, _), value = next(iter(meant.items()))
        fixed[column] = value
    return fixed


def _paired(arm: Arm, reference: Arm, metric: str, rest: list[str], over: list[str]) -> tuple[Estimate, list[str]]:
    """(the mean difference over pairs, the runs without a partner). Times are paired on one machine only."""

    def runs(one: Arm) -> dict[str, Sample]:
        place = ["place"] if is_time(metric) else []
        return {key([sample.column(name) for name in [*rest, *place]]): sample for sample in one.measured(metric)}

    mine, theirs = runs(arm), runs(reference)
    pairs = [(mine[same], theirs[same]) for same in mine if same in theirs]
    alone = [sample for same, sample in {**theirs, **mine}.items() if not (same in mine and same in theirs)]
    told = [" ".join(f"{name} {shown(sample.column(name))}" for name in over) for sample in alone]
    return Estimate(tuple(one.value(metric) - other.value(metric) for one, other in pairs)), sorted(set(told))


# notes


def _notes(table: Table, empty: int, repeated: int, rest: list[str]) -> list[str]:
    samples = [sample for arm in table.arms for sample in arm.samples]
    notes = []
    if repeated:
        notes.append(f"{counted(repeated, 'row')} of a run made again: the latest row of it counts.")
    if empty:
        notes.append(f"{counted(empty, 'arm')} without {' or '.join(table.metrics)} left out.")
    others = [name for name in rest if name not in table.over and not follows_from(samples, name, table.over)]
    if others:
        notes.append(f"Runs of one arm also differ in {listed(others)}; --by tells them apart.")
    lost = {arm.label: arm.out_of_memory for arm in table.arms if arm.out_of_memory}
    if lost:
        notes.append(f"Out of memory, in no mean: {listed([f'{label} ({n})' for label, n in lost.items()])}.")
    if any(estimate.n == 1 for estimate in table.estimates.values()):
        notes.append("A mean of one run has no interval.")
    notes += _on_times(table)
    sources = {sample.row["source"][:6] for sample in samples if sample.row.get("source")}
    torches = {version for sample in samples if (version := (sample.row.get("versions") or {}).get("torch"))}
    made = [f"{len(sources)} states of the kit's code ({', '.join(sorted(sources))})"] * (len(sources) > 1)
    made += [f"torch {' and '.join(sorted(torches))}"] * (len(torches) > 1)
    if made:
        notes.append(f"Rows made by {' and by '.join(made)} are averaged and compared all the same.")
    return notes + _on_differences(table.differences)


def _on_times(table: Table) -> list[str]:
    notes = []
    for metric in filter(is_time, table.metrics):
        places = sorted({place for arm in table.arms for place in arm.places(metric)})
        if len(places) > 1:
            mixed = [arm.label for arm in table.arms if arm.mixed(metric)]
            left = f"; not averaged: {listed(mixed)} (--by place splits them)" if mixed else ""
            notes.append(f"{metric} was measured in several places ({'; '.join(places)}), which do not compare{left}.")
    return notes


def _on_differences(differences: list[Difference]) -> list[str]:
    notes = []
    for told in dict.fromkeys((d.arm.label, d.reference.label, tuple(d.alone)) for d in differences if d.alone):
        arm, reference, alone = told
        notes.append(f"{arm} against {reference}: without a partner and left out: {listed(alone)}.")
    if len({d.arm.label for d in differences if d.estimate.half is not None}) > 1:
        notes.append(
            "Of twenty such intervals about one misses zero by chance alone; p (Holm) is adjusted for the comparisons "
            "of its metric."
        )
    return notes


def counted(n: int, word: str) -> str:
    """ "1 row", "3 rows"."""
    return f"{n} {word}{'s' if n != 1 else ''}"


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
    return ", ".join(names[:MANY]) + more
