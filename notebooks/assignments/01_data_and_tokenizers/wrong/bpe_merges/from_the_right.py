"""Joins from right to left, so that three equal ids keep the wrong one. The public check passes: it has no such run."""


def bpe_merges(words, n_merges):
    split = {word: list(word) for word in words}
    merges = []
    for new in range(256, 256 + n_merges):
        counts = Counter()
        for word, ids in split.items():
            for pair in pairwise(ids):
                counts[pair] += words[word]
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        for ids in split.values():
            for i in reversed(range(len(ids) - 1)):
                if tuple(ids[i : i + 2]) == best:
                    ids[i : i + 2] = [new]
    return merges
