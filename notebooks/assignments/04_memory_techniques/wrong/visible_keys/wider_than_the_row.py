"""Right while the window fits into the row, and negative where it is far wider. Passes the public check."""


def visible_keys(seq, window):
    width = seq if window is None else window + 1
    return seq * width - width * (width - 1) // 2
