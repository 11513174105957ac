"""Rows and columns exchanged: each key lists the queries that it may see."""


def causal_mask(length: int, window: int | None = None) -> Bool[Tensor, "length length"]:
    query, key = torch.arange(length), torch.arange(length)[:, None]
    mask = key <= query
    return mask if window is None else mask & (query - key <= window)
