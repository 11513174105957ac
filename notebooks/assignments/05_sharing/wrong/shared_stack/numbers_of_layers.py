"""Names each block by the first layer that uses it, 0, 0, 2, 2, and takes the largest name for the number of blocks."""


def shared_stack(pattern, n_layers, matrices):
    if pattern == "all":
        order = [0] * n_layers
    elif pattern == "looped":
        order = [min(layer, 1) if layer < n_layers - 1 else layer for layer in range(n_layers)]
    else:
        order = [layer - layer % 2 for layer in range(n_layers)]
    return order, (max(order) + 1) * matrices, 2 * matrices * n_layers
