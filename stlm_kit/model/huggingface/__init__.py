"""Hugging Face's layout, read and written: a folder with config.json and safetensors files that transformers loads.

layouts.py   the layout that holds a decoder, and its config.json
settings.py  from a config.json to a decoder's config; unknown settings are refused
tensors.py   weights under the kit's names and under Hugging Face's
files.py     tensors from one file or several, in one type
folder.py    export_to_hf and load_from_hf

Nothing here needs transformers, and pickles are never read.
"""

from stlm_kit.model.huggingface.folder import export_to_hf, load_from_hf
from stlm_kit.model.huggingface.layouts import hf_config, layout_of
from stlm_kit.model.huggingface.settings import kit_config

__all__ = ["export_to_hf", "hf_config", "kit_config", "layout_of", "load_from_hf"]
