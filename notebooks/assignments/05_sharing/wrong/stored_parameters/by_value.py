"""Takes parameters with equal numbers for shared ones, such as two norms that both start with ones."""


def stored_parameters(model):
    kinds = {(tuple(parameter.shape), tuple(parameter.flatten().tolist())) for parameter in model.parameters()}
    return sum(len(numbers) for _, numbers in kinds)
