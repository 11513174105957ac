"""Right everywhere, by the kernels of torch's ready-made GradScaler: only the rule takes its marks."""


def loss_scaling(gradients, scale, good):
    unscaled, found = [gradient.float() for gradient in gradients], torch.zeros(1)
    torch._amp_foreach_non_finite_check_and_unscale_(unscaled, found, torch.tensor(1 / scale))
    after, count = torch.tensor(scale), torch.tensor(good, dtype=torch.int32)
    torch._amp_update_scale_(after, count, found, 2.0, 0.5, 2000)
    return None if found.item() else unscaled, after.item(), count.item()
