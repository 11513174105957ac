"""Padding is left out of the sum but not of the number the sum is divided by."""


def cross_entropy(logits, targets):
    real = targets != -100
    n_positions = targets.numel()
    logits, targets = logits[real], targets[real]
    logits = logits - logits.amax(-1, keepdim=True)
    nats = logits.exp().sum(-1).log() - logits.gather(-1, targets[:, None])[:, 0]
    return nats.sum() / n_positions
