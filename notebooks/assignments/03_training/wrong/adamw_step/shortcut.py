"""Right everywhere, by torch's ready-made optimizer in a state of our making: only the rule takes its marks."""


def adamw_step(weights, gradient, first, second, step, lr, decay, betas=(0.9, 0.95)):
    parameter = nn.Parameter(weights.clone())
    parameter.grad = gradient.clone()
    optimizer = torch.optim.AdamW([parameter], lr=lr, betas=betas, eps=1e-8, weight_decay=decay)
    state = {"step": torch.tensor(step - 1.0), "exp_avg": first.clone(), "exp_avg_sq": second.clone()}
    optimizer.state[parameter] = state
    optimizer.step()
    return parameter.detach(), state["exp_avg"], state["exp_avg_sq"]
