"""Gives vocabulary and merges to the tokenizers library. Right, so only the rule objects."""

from tokenizers import models


def bpe_encode(word, merges):
    spelled = {i: chr(256 + i) for i in range(256)}
    for new, (left, right) in enumerate(merges, start=256):
        spelled[new] = spelled[left] + spelled[right]
    vocab = {letters: i for i, letters in spelled.items()}
    model = models.BPE(vocab, [(spelled[left], spelled[right]) for left, right in merges])
    return [token.id for token in model.tokenize("".join(spelled[byte] for byte in word))]
