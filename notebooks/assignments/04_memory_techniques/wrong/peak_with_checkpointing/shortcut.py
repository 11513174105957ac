"""Right everywhere, by torch's ready-made tracker watching tensors of these sizes: only the rule takes its marks."""

from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker


def peak_with_checkpointing(inputs, kept, gradients, logits, copies):
    tracker, moments = MemTracker(), []

    def make(mib):
        return torch.empty(round(mib * 2**20), dtype=torch.uint8)

    def look(place):
        (device,) = tracker.get_tracker_snapshot().values()
        moments.append((place, device["Total"] / 2**20))

    with FakeTensorMode(), tracker:
        alive = [make(size) for size in inputs]
        at_the_loss = [make(logits) for _ in range(copies)]
        look(len(inputs))
        del at_the_loss
        grown = [make(gradients[-1])]
        for i in reversed(range(len(inputs))):
            again = make(kept[i])
            look(i)
            del again
            alive.pop()
            grown.append(make(gradients[i]))
    return max(moments, key=lambda moment: moment[1])
