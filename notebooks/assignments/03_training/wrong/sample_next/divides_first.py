"""Divides by the temperature before anything is subtracted: at a tiny one every logit is infinite, p is nan.

Passes the public check.
"""


def sample_next(logits, temperature, keep, u):
    logits = logits.double()
    order = logits.argsort(descending=True, stable=True)
    p = torch.zeros_like(logits)
    if temperature == 0:
        p[order[0]] = 1
    else:
        p[order[:keep]] = (logits[order[:keep]] / temperature).softmax(-1)
    total = p.cumsum(-1)
    return p, int((total <= u * total[-1]).sum())
