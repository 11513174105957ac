"""Off by one: doubles at the first good step after `patience` of them."""


def loss_scaling(gradients, scale, good):
    if not all(gradient.isfinite().all() for gradient in gradients):
        return None, scale / 2, 0
    unscaled = [gradient.float() / scale for gradient in gradients]
    if good == 2000:
        return unscaled, 2 * scale, 0
    return unscaled, scale, good + 1
