"""Multiplies both factors by the singular values themselves, not by their roots."""


def nearest_factors(weight, rank):
    if not 1 <= rank <= min(weight.shape):
        raise ValueError(f"The rank {rank} is not possible.")
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    return values[:rank, None] * right[:rank], left[:, :rank] * values[:rank]
