"""Leaks the future: the mask begins one place late, so that each token sees the next one."""


def grouped_queries(
    q: Float[Tensor, "*leading n_heads seq head_dim"],
    k: Float[Tensor, "*leading n_kv_heads seq head_dim"],
    v: Float[Tensor, "*leading n_kv_heads seq head_dim"],
) -> Float[Tensor, "*leading n_heads seq head_dim"]:
    group = q.shape[-3] // k.shape[-3]
    k, v = k.repeat_interleave(group, dim=-3), v.repeat_interleave(group, dim=-3)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    future = torch.ones_like(scores, dtype=torch.bool).triu(2)
    return scores.masked_fill(future, -torch.inf).softmax(-1) @ v
