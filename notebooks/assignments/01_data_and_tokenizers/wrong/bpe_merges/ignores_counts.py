"""Counts each different word once, however often it occurs."""


def bpe_merges(words, n_merges):
    split = [list(word) for word in words]
    merges = []
    for new in range(256, 256 + n_merges):
        counts = Counter(pair for ids in split for pair in pairwise(ids))
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        for k, ids in enumerate(split):
            joined = []
            for i in ids:
                if joined and (joined[-1], i) == best:
                    joined[-1] = new
                else:
                    joined.append(i)
            split[k] = joined
    return merges
