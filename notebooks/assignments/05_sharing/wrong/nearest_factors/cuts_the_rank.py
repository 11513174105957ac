"""Cuts a rank that is too large down to the largest possible, and does not refuse it."""


def nearest_factors(weight, rank):
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    roots = values[:rank].sqrt()
    return roots[:, None] * right[:rank], left[:, :rank] * roots
