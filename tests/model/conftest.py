"""Tiny decoders of every kind."""

import pytest
import torch

from stlm_kit.config import DecoderConfig

LLAMA = {"norm": "rmsnorm", "positions": "rotary", "feed_forward": "swiglu", "bias": False, "tied_head": True}
GPT2 = {"norm": "layernorm", "positions": "learned", "feed_forward": "gelu_tanh", "bias": True, "tied_head": True}
VASWANI = {"norm": "layernorm", "positions": "sinusoidal", "feed_forward": "relu", "bias": True, "tied_head": False}
# Ways to stretch rotary positions. Of 12 positions Llama 3's keeps some rates, blends some and divides the rest.
LINEAR = {"kind": "linear", "factor": 4.0}
LLAMA3 = {"kind": "llama3", "factor": 8.0, "low_frequency": 1.0, "high_frequency": 4.0, "original_context": 32}


def tiny(style=LLAMA, **settings) -> DecoderConfig:
    """A decoder of 2 layers and 16 wide: quick, but with every part a large one has."""
    sizes = {"vocab_size": 23, "context_length": 12, "n_layers": 2, "d_model": 16, "n_heads": 4, "d_ff": 20}
    return DecoderConfig(**{**sizes, **style, **settings})


def stir(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Random numbers in every parameter (norms and biases too, which start at 1 and 0), and evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator).to(parameter))
    return model.eval()


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(0, 23, (2, 9), generator=torch.Generator().manual_seed(1))
