"""Clips each tensor by its own norm, so that the step points elsewhere."""


def clip_by_global_norm(gradients, largest):
    norms = torch.stack([gradient.norm() for gradient in gradients])
    factors = (largest / (norms + 1e-6)).clamp(max=1)
    return [factor * gradient for factor, gradient in zip(factors, gradients, strict=True)], norms.norm()
