"""From text to batches: corpora of documents, tokenizers, memory-mapped token files and two kinds of batches.

Names are imported on first use. So you can look at the cache without torch, which only the batches need.
"""

from __future__ import annotations

import importlib

_WHERE = {
    "batches": ["IGNORE", "Batch", "DocumentBatches", "PackedBatches"],
    "corpora": ["corpus_names", "load_corpus"],
    "token_files": ["TokenFile", "tokenize_corpus"],
    "tokenizers": ["Tokenizer", "load_tokenizer"],
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'stlm_kit.data' has no attribute {name!r}")
    return getattr(importlib.import_module(f"stlm_kit.data.{_MODULE_OF[name]}"), name)
