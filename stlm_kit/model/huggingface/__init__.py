"""Hugging Face's layout, both ways: a folder with config.json and safetensors files that transformers loads.

layouts.py   which of its layouts holds a decoder, and the config.json that says so
settings.py  from a config.json to a decoder's config; what the kit does not know is refused
tensors.py   weights from the kit's names to theirs and back
files.py     tensors out of one file or several, in one type
folder.py    export_to_hf and load_from_hf

Nothing here needs transformers, and no pickle is ever read.
"""

from stlm_kit.model.huggingface.folder import export_to_hf, load_from_hf
from stlm_kit.model.huggingface.layouts import hf_config, layout_of
from stlm_kit.model.huggingface.settings import kit_config

__all__ = ["export_to_hf", "hf_config", "kit_config", "layout_of", "load_from_hf"]
