"""The two signs exchanged: it turns backwards. Scores still depend on the distance alone."""


def rotary(
    x: Float[Tensor, "*leading seq head_dim"], positions: Int[Tensor, " seq"], base: float = 10_000.0
) -> Float[Tensor, "*leading seq head_dim"]:
    half = x.shape[-1] // 2
    angles = positions.double()[:, None] / base ** (torch.arange(half).double() / half)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos + second * sin, second * cos - first * sin], dim=-1)
