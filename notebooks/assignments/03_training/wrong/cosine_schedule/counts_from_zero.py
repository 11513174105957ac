"""Off by one: the step's number is taken to begin at 0, so that the first step learns nothing and the last is early."""


def cosine_schedule(step, steps, warmup, peak):
    step -= 1
    if step < warmup:
        return peak * step / warmup
    done = min((step - warmup) / (steps - warmup), 1)
    return peak * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)
