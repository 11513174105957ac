"""A `MemoryReport`: what a training step takes, measured or predicted, in MiB."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from statistics import fmean
from typing import Literal

from stlm_kit.errors import UsageError
from stlm_kit.memory.allocator import Replay, as_asked, least, replay
from stlm_kit.memory.devices import Device, device_named
from stlm_kit.memory.recording import CATEGORIES, MIB, Allocation, Recording, survivors

Span = Literal["forward_backward", "step"]
Semantics = Literal["cuda", "cpu"]
SPANS, SEMANTICS = ("forward_backward", "step"), ("cuda", "cpu")


@dataclass(frozen=True)
class Timeline:
    """One training step, operation by operation: names, and the live MiB after each, by category (stacked: the sum)."""

    operations: list[str]
    modules: list[str]
    phases: list[str]
    mib: dict[str, list[float]]

    def total(self) -> list[float]:
        """Live MiB after each operation."""
        return [sum(values) for values in zip(*self.mib.values(), strict=True)]


@dataclass(frozen=True)
class MemoryReport:
    """Sizes in MiB (2^20 bytes). `by_category`, `by_module` and `alive_at_peak` say what made up the peak.

    `span`: the peak is that of forward and backward alone, or of the whole step with clip and update. `found` is
    "predicted" or "measured"; a measured report has the seconds of a step besides. What torch reserves is more than it
    needs: short of memory it gives back what it keeps, a little slower. `needed_mib` is the least that a whole step
    then runs in, predicted for a GPU; None elsewhere. A prediction averaged over batches
    of unequal padding shows the memory of the average batch in its parts, and the average of the peaks as its peak.
    """

    peak_allocated_mib: float
    peak_reserved_mib: float
    after_forward_mib: float
    after_backward_mib: float
    by_category: dict[str, float]
    by_module: dict[str, float]
    alive_at_peak: list[dict[str, object]]
    timeline: Timeline
    peak_phase: str
    span: Span
    semantics: Semantics
    found: Literal["predicted", "measured"] = "predicted"
    assumptions: list[str] = field(default_factory=list)
    step_s: dict[str, float] | None = None
    needed_mib: float | None = None

    def fits(self, device: str | Device | float, context_mib: float = 0.0) -> bool:
        """Whether the step fits into a GPU, by its name (devices.DEVICES), or into a number of MiB: what it needs, or
        where that is not known what it reserves.

        Of a named GPU the CUDA context is taken off, and the step must leave 2 % of itself to spare (devices.MARGIN):
        for the scratch memory of kernels that a prediction leaves out. A number of MiB is taken as it is, less
        `context_mib`. UsageError for a name that there is none of, or for no size.
        """
        needed = self.peak_reserved_mib if self.needed_mib is None else self.needed_mib
        if isinstance(device, str | Device):
            return needed <= device_named(device).safe_mib
        limit_mib = device
        if not limit_mib > 0:
            raise UsageError(f"limit_mib = {limit_mib!r} will not do; give the device's memory in MiB, more than 0.")
        return needed + context_mib <= limit_mib

    def to_dict(self, timeline: bool = False) -> dict[str, object]:
        """All of it as plain values; the timeline, which is long, where asked for."""
        row = asdict(self)
        if not timeline:
            del row["timeline"]
        return row

    def to_json(self, timeline: bool = False) -> str:
        return json.dumps(self.to_dict(timeline))


def check_choices(span: str, semantics: str) -> None:
    """UsageError for a span or semantics that there is none of."""
    for name, value, known in (("span", span, SPANS), ("semantics", semantics, SEMANTICS)):
        if value not in known:
            raise UsageError(f"{name} = {value!r} will not do; choose {' or '.join(repr(choice) for choice in known)}.")


def report_of(
    recording: Recording, span: Span, semantics: Semantics, starts: Sequence[int] | None = None, **more
) -> MemoryReport:
    """The report on the last step of a recording, or on the average of the steps that start at `starts`.

    Sizes are averages then; the parts are those of the step whose peak is nearest to the average.
    """
    if not recording.events:
        raise UsageError("Neither build nor step makes a tensor, so there is no memory to report.")
    served = replay(recording) if semantics == "cuda" else as_asked(recording)
    starts = [recording.started] if starts is None else starts
    forward, backward = (end - recording.started for end in (recording.forward_ended, recording.backward_ended))
    length = len(recording.events) - recording.started if span == "step" else backward
    at = served.allocated.__getitem__
    # A step may begin at its peak, with all that the step before it left; one that allocates nothing stays there.
    peaks = [max([max(start - 1, 0), *range(start, start + length)], key=at) for start in starts]
    mean = fmean(at(peak) for peak in peaks)
    nearest = min(range(len(starts)), key=lambda i: abs(at(peaks[i]) - mean))
    alive, given = survivors(recording.events[: peaks[nearest] + 1]), served.given
    return MemoryReport(
        peak_allocated_mib=mean / MIB,
        peak_reserved_mib=max(served.reserved[: starts[-1] + max(length, 1)]) / MIB,
        after_forward_mib=fmean(at(max(start + forward - 1, 0)) for start in starts) / MIB,
        after_backward_mib=fmean(at(max(start + backward - 1, 0)) for start in starts) / MIB,
        by_category=_sums(alive, given, lambda allocation: allocation.category, CATEGORIES),
        by_module=_sums(alive, given, lambda allocation: allocation.module or allocation.category),
        alive_at_peak=largest_first(alive, given),
        timeline=_timeline(recording, served, starts[nearest]),
        peak_phase=recording.operations[max(recording.operation_of_event[peaks[nearest]], 0)][2],
        span=span,
        semantics=semantics,
        needed_mib=least(recording) / MIB if semantics == "cuda" and span == "step" else None,
        **more,
    )


def without_parts(span: Span, semantics: Semantics, **known) -> MemoryReport:
    """A report of sizes alone: nothing is known of what they are made of."""
    nothing = Timeline([], [], [], {category: [] for category in CATEGORIES})
    parts = {"by_category": {}, "by_module": {}, "alive_at_peak": [], "timeline": nothing, "peak_phase": "unknown"}
    return MemoryReport(**known, **parts, span=span, semantics=semantics)


def largest_first(alive: list[Allocation], given: dict[Allocation, int]) -> list[dict[str, object]]:
    """Allocations as rows of `alive_at_peak`, by the bytes that the allocator gave them."""
    return [allocation.describe(given[allocation]) for allocation in sorted(alive, key=given.__getitem__, reverse=True)]


def _sums(alive: list[Allocation], given: dict, key, known: tuple[str, ...] = ()) -> dict[str, float]:
    sums = dict.fromkeys(known, 0.0)
    for allocation in alive:
        sums[key(allocation)] = sums.get(key(allocation), 0.0) + given[allocation] / MIB
    return sums


def _timeline(recording: Recording, served: Replay, start: int) -> Timeline:
    """Live MiB by category after each operation of the step whose events begin at `start`."""
    first = recording.first_operation
    changes = {category: [0.0] * (len(recording.operations) - first + 1) for category in CATEGORIES}
    end = start + recording.ended - recording.started
    for event, (allocation, sign) in enumerate(recording.events[:end]):
        place = max(recording.operation_of_event[event] - first + 1, 0) if event >= start else 0
        changes[allocation.category][place] += sign * served.given[allocation] / MIB
    columns = zip(*recording.operations[first:], strict=True)
    names, modules, phases = (list(column) for column in columns) if recording.operations[first:] else ([], [], [])
    return Timeline(names, modules, phases, {key: list(accumulate(row))[1:] for key, row in changes.items()})
