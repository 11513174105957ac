"""Writes each use's gradient over the one before, so that only the lowest layer that uses a weight counts."""


def shared_gradients(h, weights, order, slope):
    passes = []
    for block in order:
        added = (h @ weights[block]).tanh()
        passes.append((block, h, added))
        h = h + added
    by_weights = [torch.zeros_like(weight) for weight in weights]
    for block, x, added in reversed(passes):
        inner = slope * (1 - added**2)
        by_weights[block] = x.T @ inner
        slope = slope + inner @ weights[block].T
    return by_weights, slope
