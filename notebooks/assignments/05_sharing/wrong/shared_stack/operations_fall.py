"""Lets the work fall with the parameters: 2 operations for each number that is stored, not for each use."""


def shared_stack(pattern, n_layers, matrices):
    if pattern == "all":
        order = [0] * n_layers
    elif pattern == "looped":
        order = [min(layer, 1) + (layer > 1 and layer == n_layers - 1) for layer in range(n_layers)]
    else:
        order = [layer // 2 for layer in range(n_layers)]
    parameters = len(set(order)) * matrices
    return order, parameters, 2 * parameters
