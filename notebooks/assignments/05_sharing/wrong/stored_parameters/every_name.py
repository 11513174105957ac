"""Adds up what every name holds, so that a block that five layers use counts five times."""


def stored_parameters(model):
    return sum(parameter.numel() for _, parameter in model.named_parameters(remove_duplicate=False))
