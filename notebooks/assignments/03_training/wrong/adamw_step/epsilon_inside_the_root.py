"""Epsilon is added to the mean square, inside the root, and felt at gradients of 1e-4. Passes the public check."""


def adamw_step(weights, gradient, first, second, step, lr, decay, betas=(0.9, 0.95)):
    first = betas[0] * first + (1 - betas[0]) * gradient
    second = betas[1] * second + (1 - betas[1]) * gradient**2
    mean, square = first / (1 - betas[0] ** step), second / (1 - betas[1] ** step)
    return weights - lr * (mean / (square + 1e-8).sqrt() + decay * weights), first, second
