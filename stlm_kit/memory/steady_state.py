"""From two traced steps to many. Training repeats a step; only the number of real targets changes between batches.

The allocator's state matters: the blocks that one step left decide how the next step's requests are cut. A study that
averages over thousands of steps of unequal padding has measured this state, so a prediction replays some dozens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

from stlm_kit.memory.recording import Allocation, Recording


def shares(mean: float, std: float, n_steps: int) -> list[float]:
    """The share of real targets in each of `n_steps` batches, with the mean of an epoch.

    They are the midpoints of equally likely intervals of a normal distribution, clipped to 0 and 1, in an order without
    a trend.
    """
    if not std:
        return [mean] * n_steps
    normal = NormalDist(mean, std)
    middles = [min(max(normal.inv_cdf((i + 0.5) / n_steps), 0.0), 1.0) for i in range(n_steps)]
    stride = next(k for k in range(round(0.618 * n_steps), 2 * n_steps) if math.gcd(k, n_steps) == 1)
    return [middles[i * stride % n_steps] for i in range(n_steps)]


def growth_per_share(one: Recording, other: Recording, difference: float) -> dict[Allocation, float] | None:
    """The bytes by which each allocation of `one`'s last step grows when the share of real targets grows by 1.

    other: a recording of the same program at a share greater by `difference`. None where the two ran different
    operations.
    """
    same = one.operations == other.operations and [sign for _, sign in one.events] == [sign for _, sign in other.events]
    if not same:
        return None
    pairs = zip(one.events[one.started :], other.events[other.started :], strict=True)
    grown = ((mine, (theirs.n_bytes - mine.n_bytes) / difference) for (mine, sign), (theirs, _) in pairs if sign > 0)
    return {allocation: growth for allocation, growth in grown if growth}


def repeated(recording: Recording, sizes: Sequence[dict[Allocation, int]]) -> tuple[Recording, list[int]]:
    """The recording with its last step repeated for each entry of `sizes`, and the start of each of these steps.

    sizes: {allocation: bytes} where they differ from the recorded ones. The list of starts is empty where the last step
    does not repeat the step before it, because then nothing can be extrapolated. A tensor that lives into the next step
    (gradients, kept outputs) is freed there in place of its predecessor.
    """
    step = recording.events[recording.started :]
    born = [allocation for allocation, sign in step if sign > 0]
    mine, dead = set(born), {allocation for allocation, sign in step if sign < 0}
    handed_on = [allocation for allocation in born if allocation not in dead]
    inherited = [allocation for allocation in recording.allocations() if allocation in dead - mine]
    if [allocation.shape for allocation in handed_on] != [allocation.shape for allocation in inherited]:
        return recording, []
    heir = dict(zip(inherited, handed_on, strict=True))
    events, places, starts = list(recording.events), list(recording.operation_of_event), []
    now = {allocation: allocation for allocation in born}  # each allocation's copy in the current step
    for changed in sizes:
        before, now = now, {one: replace(one, n_bytes=changed.get(one, one.n_bytes)) for one in born}
        starts.append(len(events))
        events.extend((now[one] if one in now else before[heir[one]], sign) for one, sign in step)
        places.extend(recording.operation_of_event[recording.started :])
    shift = starts[-1] - recording.started if starts else 0
    ends = {name: getattr(recording, name) + shift for name in ("started", "forward_ended", "backward_ended", "ended")}
    return replace(recording, events=events, operation_of_event=places, **ends), starts
