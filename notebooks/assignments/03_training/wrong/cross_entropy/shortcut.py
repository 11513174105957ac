"""Right everywhere, by torch's ready-made loss: only the rule takes its marks."""


def cross_entropy(logits, targets):
    nats = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=-100, reduction="sum")
    return nats / max(int((targets != -100).sum()), 1)
