"""Counts what the blocks hold and forgets that the weights' gradients pile up beside it."""


def peak_with_checkpointing(inputs, kept, gradients, logits, copies):
    moments = [(len(kept), sum(inputs) + copies * logits)]
    for i in reversed(range(len(kept))):
        moments.append((i, sum(inputs[: i + 1]) + kept[i]))
    return max(moments, key=lambda moment: moment[1])
