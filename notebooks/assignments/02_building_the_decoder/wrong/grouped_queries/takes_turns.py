"""Repeats the key heads as a whole, so that heads take turns where neighbours should share."""


def grouped_queries(
    q: Float[Tensor, "*leading n_heads seq head_dim"],
    k: Float[Tensor, "*leading n_kv_heads seq head_dim"],
    v: Float[Tensor, "*leading n_kv_heads seq head_dim"],
) -> Float[Tensor, "*leading n_heads seq head_dim"]:
    group = q.shape[-3] // k.shape[-3]
    k, v = torch.cat([k] * group, dim=-3), torch.cat([v] * group, dim=-3)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    future = torch.ones_like(scores, dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -torch.inf).softmax(-1) @ v
