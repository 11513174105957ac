"""Decoders whose weights are not drawn, because other weights replace them at once."""

from __future__ import annotations

from contextlib import contextmanager

import torch

from stlm_kit.config import DecoderConfig
from stlm_kit.model.decoder import Decoder
from stlm_kit.model.layers import Rotary


@contextmanager
def default_type(dtype: torch.dtype):
    """Within this context new floating-point tensors have this type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def meta_decoder(config: DecoderConfig, dtype: torch.dtype = torch.float32) -> Decoder:
    """A decoder whose parameters have shapes and no memory. Nothing is drawn from torch's generators.

    The tables of rotary positions are real. `load_state_dict(..., assign=True)` gives it weights.
    """
    with torch.device("meta"), default_type(dtype):
        model = Decoder(config)
    if model.rotary is not None:
        model.rotary = Rotary(config)
    return model
