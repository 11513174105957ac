"""Gives each layer all that it should read, though the vectors of the layers before it are still in the stream."""


def index_vectors(weight, wanted):
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    used = values > 1e-9 * values[0]
    read = (wanted @ left[:, used] / values[used]) @ right[used]
    return read, (wanted - read @ weight.T).norm(dim=-1)
