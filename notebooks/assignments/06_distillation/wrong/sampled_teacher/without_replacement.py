"""Draws each token at most once, with the weights of draws with replacement: rare tokens weigh too much."""


def sampled_teacher(logits, k, generator):
    ids = torch.multinomial(logits.softmax(-1), k, generator=generator)
    return ids, torch.full_like(logits[:, :1], 1 / k).expand(-1, k)
