"""Right everywhere, by autograd: only the rule takes its marks."""


def shared_gradients(h, weights, order, slope):
    start = h.clone().requires_grad_()
    learned = [weight.clone().requires_grad_() for weight in weights]
    x = start
    for block in order:
        x = x + (x @ learned[block]).tanh()
    found = torch.autograd.grad((x * slope).sum(), [start, *learned], allow_unused=True)
    by_weights = [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found[1:], strict=True)]
    return by_weights, found[0]
