"""Forgets ln 2: nats for each byte, not bits."""


def bits_per_byte(losses, targets, texts, end):
    counts = (targets != -100) & (targets != end)
    return losses[counts].double().sum().item() / sum(len(text.encode()) for text in texts)
