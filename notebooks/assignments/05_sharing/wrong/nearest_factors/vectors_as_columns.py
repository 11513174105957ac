"""Takes the right singular vectors for columns, as torch.svd gave them; torch.linalg.svd gives rows."""


def nearest_factors(weight, rank):
    if not 1 <= rank <= min(weight.shape):
        raise ValueError(f"The rank {rank} is not possible.")
    left, values, right = torch.linalg.svd(weight)
    roots = values[:rank].sqrt()
    return roots[:, None] * right[:, :rank].T, left[:, :rank] * roots
