"""Lets the tokenizers library train. It breaks ties as published, so every cell passes and only the rule objects."""

import json

from tokenizers import Tokenizer, models, trainers


def bpe_merges(words, n_merges):
    letters = [chr(256 + byte) for byte in range(256)]  # in the order of the bytes, which the ids then have too
    texts = ["".join(letters[byte] for byte in word) for word, count in words.items() for _ in range(count)]
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=256 + n_merges, initial_alphabet=letters, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return [(model["vocab"][left], model["vocab"][right]) for left, right in model["merges"]]
