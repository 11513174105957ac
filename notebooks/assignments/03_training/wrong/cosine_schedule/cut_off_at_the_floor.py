"""The cosine goes down to 0 and is cut off at the floor, where it should be scaled to end there."""


def cosine_schedule(step, steps, warmup, peak):
    if step <= warmup:
        return peak * step / warmup
    done = min((step - warmup) / (steps - warmup), 1)
    return peak * max(0.1, (1 + math.cos(math.pi * done)) / 2)
