"""Takes the change from the trained matrix itself, not from what it has beyond the shared one."""


def relaxed_start(trained, order, rank):
    shared = torch.zeros(max(order) + 1, *trained.shape[1:], dtype=trained.dtype)
    for block in range(len(shared)):
        shared[block] = trained[[used == block for used in order]].mean(0)
    left, values, right = torch.linalg.svd(trained, full_matrices=False)
    return shared, right[:, :rank], left[:, :, :rank] * values[:, None, :rank]
