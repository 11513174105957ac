"""Takes a looped stack to have three blocks however few its layers are. Passes the public check."""


def shared_stack(pattern, n_layers, matrices):
    order, stored = [0] * n_layers, 1
    if pattern == "looped":
        order, stored = [0] + [1] * (n_layers - 2) + [2], 3
    elif pattern == "twice":
        order, stored = [layer // 2 for layer in range(n_layers)], (n_layers + 1) // 2
    return order, stored * matrices, 2 * matrices * n_layers
