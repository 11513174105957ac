"""Weighs draws from p by p again, divided by their sum."""


def sampled_teacher(logits, k, generator):
    p = logits.softmax(-1)
    ids = torch.multinomial(p, k, replacement=True, generator=generator)
    weights = p.gather(-1, ids)
    return ids, weights / weights.sum(-1, keepdim=True)
