"""Counts the token itself as one of the window, where it comes on top."""


def visible_keys(seq, window):
    width = seq if window is None else min(seq, window)
    return seq * width - width * (width - 1) // 2
