"""Joins a merge's first place and leaves its others. The public check passes: no merge has two places there."""


def bpe_encode(word, merges):
    ids = list(word)
    for new, pair in enumerate(merges, start=256):
        for i, here in enumerate(pairwise(ids)):
            if here == pair:
                ids[i : i + 2] = [new]
                break
    return ids
