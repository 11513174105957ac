"""Comes down in a straight line, which meets the cosine half way and at both ends. Passes the public check."""


def cosine_schedule(step, steps, warmup, peak):
    if step <= warmup:
        return peak * step / warmup
    done = min((step - warmup) / (steps - warmup), 1)
    return peak * (1 - 0.9 * done)
