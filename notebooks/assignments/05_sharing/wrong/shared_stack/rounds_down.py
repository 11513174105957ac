"""Rounds half of an odd number of layers down, so that the last block is used three times. Passes the public check."""


def shared_stack(pattern, n_layers, matrices):
    if pattern == "all":
        order = [0] * n_layers
    elif pattern == "looped":
        order = [min(layer, 1) + (layer > 1 and layer == n_layers - 1) for layer in range(n_layers)]
    else:
        n_blocks = max(1, n_layers // 2)
        order = [min(layer // 2, n_blocks - 1) for layer in range(n_layers)]
    return order, len(set(order)) * matrices, 2 * matrices * n_layers
