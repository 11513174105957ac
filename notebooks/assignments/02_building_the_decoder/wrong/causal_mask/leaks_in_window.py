"""Leaks the future: with a window it looks as far ahead as it looks back."""


def causal_mask(length: int, window: int | None = None) -> Bool[Tensor, "length length"]:
    position = torch.arange(length)
    back = position[:, None] - position
    return back >= 0 if window is None else back.abs() <= window
