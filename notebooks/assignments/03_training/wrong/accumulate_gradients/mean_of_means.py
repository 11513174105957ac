"""Averages the micro-batches' means, so that a token of a poorly filled one weighs more."""


def accumulate_gradients(model, micro_batches):
    model.zero_grad()
    mean = 0.0
    for inputs, targets in micro_batches:
        share = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten()) / len(micro_batches)
        share.backward()
        mean += share.item()
    return mean
