"""The tensors that are alive at each moment of a predicted step. Their sizes add up to the timeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from stlm_kit.config import ModelConfig
from stlm_kit.errors import UsageError
from stlm_kit.memory.allocator import Replay, as_asked, replay
from stlm_kit.memory.assumptions import assumptions
from stlm_kit.memory.devices import Device
from stlm_kit.memory.predict import device_for, settled, trace_subject
from stlm_kit.memory.recording import Allocation, Recording, survivors
from stlm_kit.memory.report import MemoryReport, Semantics, Span, check_choices, largest_first, report_of
from stlm_kit.memory.step_under_test import Subject
from stlm_kit.training.recipe import Recipe


@dataclass(frozen=True)
class WatchedStep:
    """A predicted step with all its tensors.

    `report.timeline` and `alive_after` number the operations alike, from 0.
    """

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
        events = chain(self._events_before(), self._events_until(self.recording.first_operation + operation))
        return largest_first(survivors(events), self.served.given)

    def tensors(self) -> list[dict[str, object]]:
        """Every tensor that is alive at some time in the step, even within an operation, as rows of `alive_at_peak`."""
        born = [allocation for allocation, sign in self.recording.events[self.recording.started :] if sign > 0]
        return [one.describe(self.served.given[one]) for one in [*survivors(self._events_before()), *born]]

    def _events_before(self) -> list[tuple[Allocation, int]]:
        return self.recording.events[: self.recording.started]

    def _events_until(self, operation: int) -> Iterator[tuple[Allocation, int]]:
        step = slice(self.recording.started, self.recording.ended)
        for event, place in zip(self.recording.events[step], self.recording.operation_of_event[step], strict=True):
            if place <= operation:
                yield event


def watch_step(
    config: ModelConfig | str,
    recipe: Recipe | str,
    batch_size: int,
    sequence_length: int,
    valid_fraction: float = 1.0,
    span: Span = "forward_backward",
    semantics: Semantics = "cuda",
    device: str | Device | None = None,
) -> WatchedStep:
    """`predict_peak` with a record of every tensor, in MiB. Arguments and errors are those of `predict_peak`."""
    check_choices(span, semantics)
    subject = Subject.of(config, recipe, batch_size, sequence_length, valid_fraction)
    subject.check_runs_on(semantics)
    on = device_for(semantics, device, subject)
    recording = settled(trace_subject(subject, semantics, on), semantics)
    report = report_of(recording, span, semantics, assumptions=assumptions(semantics, subject, on))
    return WatchedStep(report, recording, replay(recording) if semantics == "cuda" else as_asked(recording))
