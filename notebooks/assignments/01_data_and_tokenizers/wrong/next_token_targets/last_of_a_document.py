"""Off by one: ignores the last token of each document in place of the first of the next."""


def next_token_targets(rows, documents):
    targets = rows[:, 1:].clone()
    changes = documents[:, 1:] != documents[:, :-1]
    targets[:, :-1][changes[:, 1:]] = -100
    targets[documents[:, 1:] == -1] = -100
    return rows[:, :-1], targets
