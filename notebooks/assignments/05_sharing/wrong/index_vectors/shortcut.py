"""Right everywhere, by the ready-made inverse: only the rule takes its marks."""


def index_vectors(weight, wanted):
    read = wanted @ torch.linalg.pinv(weight, rtol=1e-9).T
    away = (wanted - read @ weight.T).norm(dim=-1)
    return torch.cat([read[:1], read.diff(dim=0)]), away
