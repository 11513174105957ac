"""Nothing stops the cosine after the last step, so it climbs back to the peak. Passes the public check."""


def cosine_schedule(step, steps, warmup, peak):
    if step <= warmup:
        return peak * step / warmup
    done = (step - warmup) / (steps - warmup)
    return peak * (0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2)
