"""The sizes that the poster's answers count by formula, beside the models themselves."""

import pytest
import torch
import transformers

from stlm_kit.config import DecoderConfig
from stlm_kit.ledger import find_claim
from stlm_kit.model import Decoder, count_parameters
from stlm_kit.studies.poster.answers import qwen3_parameters, shared_parameters


@pytest.mark.parametrize("claim", ["poster.size.qwen06", "poster.size.qwen8"])
def test_qwen3_is_counted_as_transformers_builds_it(claim):
    ours = dict(find_claim(claim).setting)
    theirs = transformers.Qwen3Config(
        hidden_size=ours["d_model"],
        num_hidden_layers=ours["n_layers"],
        num_attention_heads=ours["n_heads"],
        num_key_value_heads=ours["n_kv_heads"],
        intermediate_size=ours["d_ff"],
        tie_word_embeddings=ours["tied_head"],
        **{name: ours[name] for name in ("vocab_size", "head_dim")},
    )
    with torch.device("meta"):
        model = transformers.Qwen3ForCausalLM(theirs)
    model.tie_weights()
    assert count_parameters(model) == qwen3_parameters(**ours)


def test_the_shared_student_is_a_decoder_of_one_layer():
    config = DecoderConfig(
        vocab_size=1000, context_length=64, n_layers=1, d_model=256, n_heads=8, n_kv_heads=2, d_ff=768, tied_head=True,
        norm="rmsnorm", positions="rotary", feed_forward="swiglu", bias=False,
    )  # fmt: skip
    with torch.device("meta"):
        expected = count_parameters(Decoder(config))
    assert shared_parameters(256, vocab_size=1000, kv_share=0.25, ff_multiple=3) == expected
