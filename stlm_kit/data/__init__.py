"""Text to batches: corpora of documents, tokenizers, memory-mapped token files and two ways to make batches."""

from stlm_kit.data.batches import IGNORE, Batch, DocumentBatches, PackedBatches
from stlm_kit.data.corpora import corpus_names, load_corpus
from stlm_kit.data.token_files import TokenFile, tokenize_corpus
from stlm_kit.data.tokenizers import Tokenizer, load_tokenizer

__all__ = [
    "IGNORE",
    "Batch",
    "DocumentBatches",
    "PackedBatches",
    "TokenFile",
    "Tokenizer",
    "corpus_names",
    "load_corpus",
    "load_tokenizer",
    "tokenize_corpus",
]
