"""Takes the mean over the positions in place of the features."""


def rms_norm(
    x: Float[Tensor, "*leading d_model"], weight: Float[Tensor, " d_model"]
) -> Float[Tensor, "*leading d_model"]:
    return weight * x / (x.pow(2).mean(0, keepdim=True) + 1e-5).sqrt()
