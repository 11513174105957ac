"""Off by one: keeps an id for the end of document, so that the first merge makes 257."""


def bpe_encode(word, merges):
    ids = list(word)
    for number, pair in enumerate(merges, start=1):
        joined = []
        for i in ids:
            if joined and (joined[-1], i) == pair:
                joined[-1] = 256 + number
            else:
                joined.append(i)
        ids = joined
    return ids
