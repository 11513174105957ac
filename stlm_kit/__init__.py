"""stlm_kit: build, train, measure and check super tiny language models.

    import stlm_kit as kit
    corpus = kit.load_corpus("sotu")
    tokenizer = kit.load_tokenizer("bpe-2048", corpus)
    model = kit.Decoder(kit.preset("laptop-llama", vocab_size=tokenizer.vocab_size))

Names are imported on first use, so that `import stlm_kit` itself costs nothing.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_WHERE = {
    "config": ["DecoderConfig"],
    "presets": ["PRESETS", "preset", "preset_entry"],
    "data": ["load_corpus", "load_tokenizer", "tokenize_corpus", "PackedBatches", "DocumentBatches", "Batch"],
    "model": ["Decoder", "build_model", "count_parameters", "parameter_table", "export_to_hf", "load_from_hf"],
    "training": [
        "train",
        "TrainingSettings",
        "Recipe",
        "LossValue",
        "Schedule",
        "DistillationLoss",
        "HiddenStates",
        "LabelLoss",
    ],
    "memory": ["predict_peak", "predict_step", "measure_peak", "measure_step", "MemoryReport"],
    "evaluation": ["evaluate_text", "evaluate_tokens"],
    "generation": ["generate"],
    "train_from_text": ["train_from_text", "run_settings"],
    "saved_models": ["load_model", "load_run"],
    "teachers": ["load_teacher"],
    "errors": ["KitError", "UsageError", "Interrupted"],
}
_ROOM_OF = {name: room for room, names in _WHERE.items() for name in names}

__all__ = sorted(_ROOM_OF)


def __getattr__(name: str) -> object:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'stlm_kit' has no attribute {name!r}")
    return getattr(importlib.import_module(f"stlm_kit.{_ROOM_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
