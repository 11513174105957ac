"""Cuts each number off at `largest`, so that the step points elsewhere."""


def clip_by_global_norm(gradients, largest):
    norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
    return [gradient.clamp(-largest, largest) for gradient in gradients], norm
