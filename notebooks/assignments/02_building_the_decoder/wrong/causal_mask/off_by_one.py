"""Counts the token itself as one of the window: w keys where w + 1 are meant."""


def causal_mask(length: int, window: int | None = None) -> Bool[Tensor, "length length"]:
    mask = torch.ones(length, length, dtype=torch.bool).tril()
    return mask if window is None else mask.triu(1 - window)
