"""Draws k numbers once for all positions. Each position is unbiased, with the same errors. Passes the public check."""


def sampled_teacher(logits, k, generator):
    p = logits.softmax(-1)
    u = torch.rand(k, generator=generator, dtype=p.dtype).expand(len(p), k).contiguous()
    ids = torch.searchsorted(p.cumsum(-1), u).clamp(max=p.shape[-1] - 1)
    return ids, torch.full_like(u, 1 / k)
