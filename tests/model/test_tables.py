"""Tables of positions: float32 whatever the model is cast to, and rates scaled as transformers scales them."""

import pytest
import torch

from stlm_kit.errors import UsageError
from stlm_kit.model.decoder import Decoder
from stlm_kit.model.layers import rotary_angles, rotary_rates
from stlm_kit.presets import preset
from stlm_kit.rope_scaling import LinearRope, Llama3Rope

from .conftest import GPT2, LINEAR, LLAMA, LLAMA3, VASWANI, stir, tiny

CASTS = [torch.bfloat16, torch.float16, torch.float64]


def tables(model):
    return {name: table.clone() for name, table in model.named_buffers()}


@pytest.mark.parametrize("style", [LLAMA, VASWANI], ids=["rotary", "sinusoidal"])
@pytest.mark.parametrize("dtype", CASTS, ids=str)
def test_tables_stay_float32_under_any_cast(style, dtype, ids):
    model = stir(Decoder(tiny(style)))
    before = tables(model)
    model.to(dtype)
    assert before and all(torch.equal(table, before[name]) for name, table in tables(model).items())
    assert all(table.dtype == torch.float32 for table in tables(model).values())
    assert model(ids).dtype == dtype
    model.float()
    assert all(torch.equal(table, before[name]) for name, table in tables(model).items())


@pytest.mark.parametrize("style", [LLAMA, VASWANI], ids=["rotary", "sinusoidal"])
def test_there_and_back_to_float32_gives_the_weights_rounded_and_nothing_else(style, ids):
    rounded = Decoder(tiny(style))
    stir(rounded)
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.bfloat16())
    cast = stir(Decoder(tiny(style)))
    cast.load_state_dict(rounded.state_dict())
    assert torch.equal(cast.bfloat16().float()(ids), rounded(ids))


def test_positions_beyond_the_table_are_as_exact_in_bf16():
    long, short = (Decoder(tiny(context_length=n)).bfloat16().rotary for n in (4000, 8))
    for whole, made in zip(long(4000, torch.bfloat16), short(4000, torch.bfloat16), strict=True):
        assert torch.equal(whole, made)


def test_a_table_moves_with_its_model():
    assert all(table.is_meta for table in tables(Decoder(tiny()).to("meta")).values())


def test_an_immense_context_makes_no_immense_table():
    assert Decoder(tiny(context_length=2**50)).rotary.cos.shape[0] < 2**20


@pytest.mark.parametrize("scaling", [LINEAR, LLAMA3], ids=lambda given: given["kind"])
@pytest.mark.parametrize(("width", "base"), [(8, 10000.0), (128, 500000.0)])
def test_scaled_angles_are_those_of_transformers(scaling, width, base):
    transformers = pytest.importorskip("transformers")
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    names = {"kind": "rope_type", "low_frequency": "low_freq_factor", "high_frequency": "high_freq_factor"}
    names["original_context"] = "original_max_position_embeddings"
    rope = {names.get(name, name): value for name, value in scaling.items()} | {"rope_theta": base}
    theirs = LlamaRotaryEmbedding(transformers.LlamaConfig(head_dim=width, rope_parameters=rope))
    ours = (LinearRope if scaling["kind"] == "linear" else Llama3Rope)(**scaling)
    assert torch.equal(rotary_rates(width, base, ours), theirs.inv_freq)
    cos, _ = theirs(torch.zeros(1), torch.arange(5000)[None])
    assert torch.equal(rotary_angles(5000, width, base, ours).cos(), cos[0, :, : width // 2])


def test_a_scaling_is_a_setting_like_any_other():
    config = preset("laptop-llama", rope_scaling=LLAMA3)
    assert type(config)(**config.model_dump(mode="json")) == config
    assert config.rope_scaling.original_context == 32


@pytest.mark.parametrize(
    ("style", "scaling", "words"),
    [
        (LLAMA, {"kind": "yarn", "factor": 2.0}, "rope_scaling"),
        (LLAMA, {"kind": "linear", "factor": 0}, "rope_scaling.linear.factor = 0"),
        (LLAMA, {"kind": "linear", "factor": 2.0, "beta": 1}, "rope_scaling.linear.beta"),
        (LLAMA, {**LLAMA3, "low_frequency": 9.0}, "must lie below"),
        (LLAMA, "linear", "rope_scaling"),
        (GPT2, LINEAR, "these are learned"),
    ],
)
def test_a_scaling_that_is_none_is_one_sentence(style, scaling, words):
    with pytest.raises(UsageError) as caught:
        tiny(style, rope_scaling=scaling)
    assert words in str(caught.value) and "\n" not in str(caught.value)
