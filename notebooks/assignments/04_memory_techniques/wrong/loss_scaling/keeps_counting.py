"""Counts good steps, but not in a row: a skipped one does not start the count again. Passes the public check."""


def loss_scaling(gradients, scale, good):
    if not all(gradient.isfinite().all() for gradient in gradients):
        return None, scale / 2, good
    unscaled = [gradient.float() / scale for gradient in gradients]
    if good + 1 == 2000:
        return unscaled, 2 * scale, 0
    return unscaled, scale, good + 1
