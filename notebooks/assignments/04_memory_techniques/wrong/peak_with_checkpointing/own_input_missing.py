"""Off by one: leaves out the input of the very block that is computed again."""


def peak_with_checkpointing(inputs, kept, gradients, logits, copies):
    moments = [(len(kept), sum(inputs) + copies * logits)]
    for i in reversed(range(len(kept))):
        moments.append((i, sum(inputs[:i]) + kept[i] + sum(gradients[i + 1 :])))
    return max(moments, key=lambda moment: moment[1])
