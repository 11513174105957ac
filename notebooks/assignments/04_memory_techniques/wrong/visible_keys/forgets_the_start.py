"""Gives every query a full window, the first ones too, which have fewer tokens before them."""


def visible_keys(seq, window):
    if window is None:
        return seq * (seq + 1) // 2
    return seq * min(seq, window + 1)
