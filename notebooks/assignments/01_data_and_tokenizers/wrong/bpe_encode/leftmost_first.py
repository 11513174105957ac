"""Joins the leftmost pair that has any merge, however late that merge was learned. The public check passes."""


def bpe_encode(word, merges):
    made = {pair: new for new, pair in enumerate(merges, start=256)}
    ids, i = list(word), 0
    while i < len(ids) - 1:
        if (ids[i], ids[i + 1]) in made:
            ids[i : i + 2] = [made[ids[i], ids[i + 1]]]
            i = 0
        else:
            i += 1
    return ids
