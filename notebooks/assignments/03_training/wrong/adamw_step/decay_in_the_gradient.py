"""L2 and not weight decay: the pull is added to the gradient and so goes through Adam's division."""


def adamw_step(weights, gradient, first, second, step, lr, decay, betas=(0.9, 0.95)):
    gradient = gradient + decay * weights
    first = betas[0] * first + (1 - betas[0]) * gradient
    second = betas[1] * second + (1 - betas[1]) * gradient**2
    mean, square = first / (1 - betas[0] ** step), second / (1 - betas[1] ** step)
    return weights - lr * mean / (square.sqrt() + 1e-8), first, second
