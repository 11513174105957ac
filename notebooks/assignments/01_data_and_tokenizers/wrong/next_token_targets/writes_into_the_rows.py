"""Writes the ignored value into a slice of the rows, and with it into the inputs."""


def next_token_targets(rows, documents):
    inputs, targets = rows[:, :-1], rows[:, 1:]
    targets[(documents[:, 1:] != documents[:, :-1]) | (documents[:, 1:] == -1)] = -100
    return inputs, targets
