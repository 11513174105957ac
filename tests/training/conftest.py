"""A decoder and batches small enough to train in a blink."""

import pytest
import torch

from stlm_kit.config import DecoderConfig
from stlm_kit.data.batches import Batch
from stlm_kit.model.decoder import Decoder
from stlm_kit.training.settings import TrainingSettings

TINY = DecoderConfig(
    vocab_size=17,
    context_length=8,
    n_layers=2,
    d_model=16,
    n_heads=2,
    d_ff=32,
    norm="rmsnorm",
    positions="rotary",
    feed_forward="swiglu",
    bias=False,
    tied_head=True,
    dropout=0.1,
)


class RandomBatches:
    """Numbered batches of random tokens, each a pure function of its number."""

    description = "random tokens"

    def __getitem__(self, index: int) -> Batch:
        return self(0, index)

    def __call__(self, seed: int, index: int) -> Batch:
        generator = torch.Generator().manual_seed(index)
        rows = torch.randint(0, TINY.vocab_size, (4, 9), generator=generator)
        return Batch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())


@pytest.fixture
def batches():
    return RandomBatches()


@pytest.fixture
def make_model():
    def make(seed: int = 0, **changes) -> Decoder:
        torch.manual_seed(seed)
        return Decoder(TINY.model_copy(update=changes))

    return make


@pytest.fixture
def settings():
    return TrainingSettings(steps=12, batch_size=4, context_length=8, checkpoint_every=4, eval_every=4)
