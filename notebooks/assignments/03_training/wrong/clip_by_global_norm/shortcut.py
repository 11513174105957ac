"""Right everywhere, by torch's ready-made clipping of parameters: only the rule takes its marks."""


def clip_by_global_norm(gradients, largest):
    parameters = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    norm = nn.utils.clip_grad_norm_(parameters, largest)
    return [parameter.grad for parameter in parameters], norm
