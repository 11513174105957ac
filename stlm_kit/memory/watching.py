"""Which tensors are alive at each moment of a predicted step: what a timeline's height is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stlm_kit.config import DecoderConfig
from stlm_kit.errors import UsageError
from stlm_kit.memory.allocator import Replay, as_asked, replay
from stlm_kit.memory.assumptions import assumptions
from stlm_kit.memory.predict import WARM_UP, trace
from stlm_kit.memory.recording import Allocation, Recording
from stlm_kit.memory.report import MemoryReport, Semantics, Window, check_choices, report_of
from stlm_kit.memory.steady import repeated
from stlm_kit.memory.subject import Subject, folded
from stlm_kit.training.recipe import Recipe


@dataclass(frozen=True)
class WatchedStep:
    """A predicted step with every tensor of it. `report.timeline` and `alive_after` count operations alike, from 0."""

    report: MemoryReport
    recording: Recording
    served: Replay

    def alive_after(self, operation: int) -> list[dict[str, object]]:
        """The tensors alive after an operation of the timeline, the largest first, as rows of `alive_at_peak`.

        Their MiB add up to the timeline's height there. UsageError where the step has no such operation.
        """
        last = len(self.report.timeline.operations) - 1
        if isinstance(operation, bool) or not isinstance(operation, int) or not 0 <= operation <= last:
            raise UsageError(f"There is no operation {operation!r}; the step has those from 0 to {last}.")
        alive = self._held_from_before()
        for allocation, sign in self._events_until(self.recording.first_operation + operation):
            if sign > 0:
                alive[allocation] = None
            else:
                del alive[allocation]
        given = self.served.given
        ordered = sorted(alive, key=given.__getitem__, reverse=True)
        return [allocation.describe(given[allocation]) for allocation in ordered]

    def tensors(self) -> list[dict[str, object]]:
        """Every tensor that lives at some time of the step, even within an operation, as rows of `alive_at_peak`."""
        born = [allocation for allocation, sign in self.recording.events[self.recording.started :] if sign > 0]
        return [one.describe(self.served.given[one]) for one in [*self._held_from_before(), *born]]

    def _held_from_before(self) -> dict[Allocation, None]:
        alive: dict[Allocation, None] = {}
        for allocation, sign in self.recording.events[: self.recording.started]:
            if sign > 0:
                alive[allocation] = None
            else:
                del alive[allocation]
        return alive

    def _events_until(self, operation: int) -> Iterator[tuple[Allocation, int]]:
        start = self.recording.started
        for event, place in zip(self.recording.events[start:], self.recording.operation_of_event[start:], strict=True):
            if place <= operation:
                yield event


def watch_step(
    config: DecoderConfig | str,
    recipe: Recipe | str,
    batch_size: int,
    sequence_length: int,
    valid_fraction: float = 1.0,
    window: Window = "forward_backward",
    semantics: Semantics = "cuda",
) -> WatchedStep:
    """`predict_peak` with every tensor kept track of, in MiB; arguments and errors are the same."""
    check_choices(window, semantics)
    subject = Subject.of(config, recipe, batch_size, sequence_length, valid_fraction)
    subject.check_runs_on(semantics)
    with folded(subject.recipe, semantics):
        recording = trace(subject.build, subject.step, semantics=semantics, valid_fraction=valid_fraction)
    if semantics == "cuda":
        recording, _ = repeated(recording, [{}] * WARM_UP)
    report = report_of(recording, window, semantics, assumptions=assumptions(semantics, subject))
    return WatchedStep(report, recording, replay(recording) if semantics == "cuda" else as_asked(recording))
