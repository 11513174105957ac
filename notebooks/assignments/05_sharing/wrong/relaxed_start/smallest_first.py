"""Keeps the smallest singular values: torch gives them from the largest down."""


def relaxed_start(trained, order, rank):
    shared = torch.zeros(max(order) + 1, *trained.shape[1:], dtype=trained.dtype)
    for block in range(len(shared)):
        shared[block] = trained[[used == block for used in order]].mean(0)
    left, values, right = torch.linalg.svd(trained - shared[order], full_matrices=False)
    return shared, right[:, -rank:], left[:, :, -rank:] * values[:, None, -rank:]
