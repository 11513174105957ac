"""Drops tokens after the softmax and does not divide by what is left, so that the sum is below 1."""


def sample_next(logits, temperature, keep, u):
    logits = (logits - logits.max()).double()
    order = logits.argsort(descending=True, stable=True)
    if temperature == 0:
        p = torch.zeros_like(logits)
        p[order[0]] = 1
    else:
        p = (logits / temperature).softmax(-1)
        p[order[keep:]] = 0
    total = p.cumsum(-1)
    return p, min(int((total <= u).sum()), len(p) - 1)
