"""A `MemoryReport`: the memory of a training step, measured or predicted, in MiB."""

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
    """One training step by operation: the names, and the live MiB after each operation, by category (they add up)."""

    operations: list[str]
    modules: list[str]
    phases: list[str]
    mib: dict[str, list[float]]

    def total(self) -> list[float]:
        """The live MiB after each operation."""
        return [sum(values) for values in zip(*self.mib.values(), strict=True)]


@dataclass(frozen=True)
class MemoryReport:
    """Sizes in MiB (2^20 bytes). `by_category`, `by_module` and `alive_at_peak` say what the peak consists of.

    span: the peak is of forward and backward only, or of the whole step with clipping and update. found: "predicted" or
    "measured"; a measured report also has the seconds of a step.

    torch reserves more than it needs. When memory is short it returns cached segments and is slightly slower.
    `needed_mib` is the least in which a whole step then runs, predicted for a GPU; None elsewhere.

    A prediction that is averaged over batches of unequal padding has the average of the peaks as its peak, and the
    memory of the average batch in its parts.
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
        """Whether the step fits into a GPU, by its name (devices.DEVICES), or into a number of MiB.

        Compared is the needed memory or, where it is unknown, the reserved memory. For a named GPU the CUDA context is
        subtracted, and the step must leave 2 % of itself to spare (devices.MARGIN), for scratch memory of kernels that
        a prediction leaves out. A number of MiB is used as given, minus `context_mib`.

        UsageError for an unknown name or a size that is not positive.
        """
        needed = self.peak_reserved_mib if self.needed_mib is None else self.needed_mib
        if isinstance(device, str | Device):
            return needed <= device_named(device).safe_mib
        limit_mib = device
        if not limit_mib > 0:
            raise UsageError(f"limit_mib = {limit_mib!r} will not do; give the device's memory in MiB, more than 0.")
        return needed + context_mib <= limit_mib

    def to_dict(self, timeline: bool = False) -> dict[str, object]:
        """The report as plain values. The timeline is long and is included only on request."""
        row = asdict(self)
        if not timeline:
            del row["timeline"]
        return row

    def to_json(self, timeline: bool = False) -> str:
        """The report as JSON; see `to_dict`."""
        return json.dumps(self.to_dict(timeline))


def check_choices(span: str, semantics: str) -> None:
    """Raise UsageError for an unknown span or semantics."""
    for name, value, known in (("span", span, SPANS), ("semantics", semantics, SEMANTICS)):
        if value not in known:
            raise UsageError(f"{name} = {value!r} will not do; choose {' or '.join(repr(choice) for choice in known)}.")


def report_of(
    recording: Recording, span: Span, semantics: Semantics, starts: Sequence[int] | None = None, **more
) -> MemoryReport:
    """The report on the last step of a recording, or on the average of the steps that start at `starts`.

    With an average, the parts are those of the step whose peak is nearest to it.
    """
    if not recording.events:
        raise UsageError("Neither build nor step makes a tensor, so there is no memory to report.")
    served = replay(recording) if semantics == "cuda" else as_asked(recording)
    starts = [recording.started] if starts is None else starts
    forward, backward = (end - recording.started for end in (recording.forward_ended, recording.backward_ended))
    length = len(recording.events) - recording.started if span == "step" else backward
    at = served.allocated.__getitem__
    # A step may begin at its peak, with everything that the last step left. One that allocates nothing stays there.
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
    """A report of sizes only, without the parts."""
    nothing = Timeline([], [], [], {category: [] for category in CATEGORIES})
    parts = {"by_category": {}, "by_module": {}, "alive_at_peak": [], "timeline": nothing, "peak_phase": "unknown"}
    return MemoryReport(**known, **parts, span=span, semantics=semantics)


def largest_first(alive: list[Allocation], given: dict[Allocation, int]) -> list[dict[str, object]]:
    """Allocations as rows of `alive_at_peak`, sorted by the bytes that the allocator gave them."""
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
