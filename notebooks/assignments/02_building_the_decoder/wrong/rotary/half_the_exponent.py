"""The exponent lacks its factor of 2: every pair but the first turns too fast."""


def rotary(
    x: Float[Tensor, "*leading seq head_dim"], positions: Int[Tensor, " seq"], base: float = 10_000.0
) -> Float[Tensor, "*leading seq head_dim"]:
    head_dim = x.shape[-1]
    rates = base ** (-torch.arange(head_dim // 2).double() / head_dim)
    angles = positions.double()[:, None] * rates
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
