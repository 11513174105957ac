"""The decoder: layers, attention, the model itself, its parameters, and Hugging Face's layout."""

from stlm_kit.model.decoder import Block, Decoder
from stlm_kit.model.huggingface import export_to_hf, load_from_hf
from stlm_kit.model.parameters import count_parameters, parameter_table

__all__ = ["Block", "Decoder", "count_parameters", "export_to_hf", "load_from_hf", "parameter_table"]
