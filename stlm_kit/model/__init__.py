"""The decoder: layers, attention, the model itself, its parameters, and Hugging Face's layout."""

from stlm_kit.model.blocks import Block
from stlm_kit.model.cache import Cache
from stlm_kit.model.decoder import Decoder
from stlm_kit.model.huggingface import export_to_hf, load_from_hf
from stlm_kit.model.kinds import build_model, model_kind
from stlm_kit.model.language_model import FeatureModel, LanguageModel, Score
from stlm_kit.model.parameters import count_parameters, parameter_table

__all__ = [
    "Block",
    "Cache",
    "Decoder",
    "FeatureModel",
    "LanguageModel",
    "Score",
    "build_model",
    "count_parameters",
    "export_to_hf",
    "load_from_hf",
    "model_kind",
    "parameter_table",
]
