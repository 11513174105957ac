"""What a model is: one frozen config, and presets that give a config a name and a source.

A preset says what is computed: sizes, the kind of norm, which keys a token attends to. A recipe says how a step is
computed (training/recipe.py). Nothing here imports torch, so `stlm --help` is quick.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from stlm_kit.errors import UsageError, first_sentence, near
from stlm_kit.rope_scaling import RopeScaling

Size = Annotated[int, Field(ge=1)]


class ModelConfig(BaseModel, frozen=True, extra="forbid"):
    """The settings of every kind of model. A kind is a subclass with its own `kind`; `model.kinds.model_kind` connects
    it to its model class.

    Raises UsageError with one sentence for a setting that is unknown, of a wrong type, out of range, or in conflict.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    kind: str
    vocab_size: Size
    context_length: Size  # input positions: the number of learned positions, and the training length
    dropout: float = Field(0.0, ge=0, lt=1)

    def __init__(self, **settings) -> None:
        for name in settings:
            if name not in type(self).model_fields:
                kind = type(self).model_fields["kind"].default
                raise UsageError(f"A {kind} has no setting named {name!r}.{near(name, type(self).model_fields)}")
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise UsageError(first_sentence(error)) from None

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value, field: ValidationInfo):
        if isinstance(value, bool) and cls.model_fields[field.field_name].annotation is not bool:
            raise ValueError(f"{field.field_name} = {str(value).lower()} will not do: it takes no true or false.")
        return value

    @field_validator("context_length", mode="before")
    @classmethod
    def _some_context(cls, value):
        if value in (0, "0"):
            raise ValueError("A context_length of 0 leaves nothing to predict from; give at least 1 position.")
        return value


class DecoderConfig(ModelConfig, frozen=True, extra="forbid"):
    """The architecture of a decoder-only transformer with pre-norm blocks and a final norm."""

    kind: Literal["decoder"] = "decoder"
    n_layers: Size  # applications of a block, one after the other
    # The block that each layer uses, numbered from 0. None: each layer has its own. (0, 0, 0) uses one block three
    # times; (0, 1, 0, 1) repeats a pair.
    layer_order: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    d_model: Size
    n_heads: Size
    n_kv_heads: Size | None = None  # None: as many as n_heads; 1 is multi-query attention
    head_dim: Size | None = None  # None becomes d_model / n_heads; Qwen3 sets it independently
    qk_norm: bool = False  # an RMSNorm over each head of the queries and keys, before positions (Qwen3)
    d_ff: Size
    norm: Literal["layernorm", "rmsnorm"]
    norm_epsilon: float = Field(1e-5, gt=0)
    positions: Literal["learned", "sinusoidal", "rotary"]
    rope_base: float = Field(10000.0, gt=0)
    rope_scaling: RopeScaling | None = None  # {"kind": "linear" or "llama3", ...}: rope_scaling.py
    feed_forward: Literal["gelu", "gelu_tanh", "relu", "swiglu"]  # gelu_tanh: the tanh approximation, as in GPT-2
    bias: bool  # in every linear layer of a block and in the LayerNorms
    head_bias: bool = False
    tied_head: bool  # the head uses the embedding's weight: one matrix, stored once
    window: int | None = None  # w: a token attends to itself and the w tokens before it, w + 1 keys
    embedding_scale: bool = False  # token embeddings times sqrt(d_model), Vaswani et al. 2017, section 3.4
    init_std: float = Field(0.02, gt=0)

    @field_validator("window")
    @classmethod
    def _some_window(cls, value: int | None) -> int | None:
        if value is not None and value < 1:
            raise ValueError(f"A window of {value} hides the token before; give at least 1, or None for no window.")
        return value

    @model_validator(mode="after")
    def _sizes_fit(self) -> DecoderConfig:
        if self.head_dim is None:
            if self.d_model % self.n_heads:
                odd = f"n_heads = {self.n_heads} does not divide d_model = {self.d_model}"
                raise ValueError(f"{odd}; choose heads that do, or set head_dim.")
            # Not counted among the fields that were set, so a preset with other heads computes it again.
            object.__setattr__(self, "head_dim", self.d_model // self.n_heads)
        if self.n_heads % self.kv_heads:
            raise ValueError(
                f"n_kv_heads = {self.n_kv_heads} does not divide n_heads = {self.n_heads}; "
                "every key-value head serves the same number of query heads."
            )
        if self.rope_scaling is not None and self.positions != "rotary":
            raise ValueError(f"rope_scaling stretches rotary positions, and these are {self.positions}; leave it out.")
        if self.positions == "rotary" and self.head_dim % 2:
            raise ValueError(
                f"Rotary positions rotate pairs of numbers, and each head is {self.head_dim} wide; choose an even "
                "d_model / n_heads, or an even head_dim."
            )
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise ValueError(f"Sinusoidal positions come in pairs; d_model = {self.d_model} must be even.")
        return self

    @model_validator(mode="after")
    def _order_fits(self) -> DecoderConfig:
        order = self.layer_order
        if order is not None and len(order) != self.n_layers:
            raise ValueError(f"layer_order names {len(order)} layers and n_layers is {self.n_layers}; make them agree.")
        if order is not None and list(dict.fromkeys(order)) != list(range(max(order) + 1)):
            raise ValueError(f"layer_order = {list(order)} will not do: number the blocks 0, 1, 2 as they first come.")
        return self

    @property
    def kv_heads(self) -> int:
        """The number of key/value heads: n_kv_heads, or n_heads where that is None."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def order(self) -> tuple[int, ...]:
        """The block that each layer uses, one index for each layer."""
        return tuple(range(self.n_layers)) if self.layer_order is None else self.layer_order

    @property
    def n_blocks(self) -> int:
        """The number of distinct blocks."""
        return max(self.order) + 1


CONFIGS: dict[str, type[ModelConfig]] = {"decoder": DecoderConfig}  # by kind; `model.kinds.model_kind` adds to it


def config_from(values: dict[str, Any]) -> ModelConfig:
    """The config that `model_dump()` gave; a dump without a kind is a decoder's. UsageError for an unknown kind."""
    kind = values.get("kind", "decoder")
    if kind not in CONFIGS:
        raise UsageError(f"There is no kind of model named {kind!r}.{near(str(kind), CONFIGS)}")
    return CONFIGS[kind](**values)


class Preset(BaseModel, frozen=True, extra="forbid"):
    """A configuration with a name: its source, and what the source left open."""

    name: str
    config: ModelConfig
    source: str  # one sentence that cites the document
    tokenizer: str  # the default tokenizer
    published: bool  # a published vocab_size is never changed to fit a tokenizer; a laptop preset's is
    note: str = ""  # what the source left open, and what the kit chose


# The decoder of Vaswani et al. 2017, in its pre-norm form; GPT-2 (Radford et al. 2019); Llama (Touvron et al. 2023).
_VASWANI = {"norm": "layernorm", "positions": "sinusoidal", "feed_forward": "relu", "bias": True, "dropout": 0.1}
_VASWANI |= {"embedding_scale": True}
_GPT2 = {"norm": "layernorm", "positions": "learned", "feed_forward": "gelu_tanh", "bias": True, "tied_head": True}
_LLAMA = {"norm": "rmsnorm", "positions": "rotary", "feed_forward": "swiglu", "bias": False, "tied_head": True}

_STLM = "Super Tiny Language Models (Hillier, Guertler et al. 2024, arXiv 2405.14159)"
_MEMORY = "Memory-efficient transformer training techniques (results and code published on GitHub)"

_ALL = [
    Preset(
        name="memory-study",
        config=DecoderConfig(
            vocab_size=50257, context_length=255, n_layers=4, d_model=256, n_heads=8, d_ff=1024,
            tied_head=False, head_bias=True, **_VASWANI,
        ),
        source=f"{_MEMORY}, section 'Experimental Results': the model that produced its tables.",
        tokenizer="gpt2",
        published=True,
        note="Rows of 256 tokens leave 255 input positions. The text calls the head tied; its own count, 28,941,393, "
        "needs a separate head with a bias.",
    ),
    Preset(
        name="memory-study-text",
        config=DecoderConfig(
            vocab_size=10000, context_length=512, n_layers=6, d_model=512, n_heads=8, d_ff=2048,
            tied_head=True, **_VASWANI,
        ),
        source=f"{_MEMORY}, sections 'Overview' and 'Configuration': what its text prints, not what its tables used.",
        tokenizer="bpe-10000",
        published=True,
        note="Whether the head has a bias is not printed, and no reading gives the sample report's 42,567,680: "
        "tied as the text says gives 24,035,328, untied with a bias 29,165,328. The kit takes the text at its word. "
        "The text states a maximum sequence length of 512 tokens; here that is 512 input positions.",
    ),
    Preset(
        name="stlm-50m",
        config=DecoderConfig(
            vocab_size=50257, context_length=512, n_layers=10, d_model=512, n_heads=16, n_kv_heads=4, d_ff=1536,
            dropout=0.1, **_LLAMA,
        ),
        source=f"{_STLM}, Table 1, with the 4 key-value heads and the tied head of its public code.",
        tokenizer="gpt2",
        published=True,
        note="Table 1 gives neither the key-value heads nor the tying: with 16 key-value heads it is 59,821,056, "
        "and untied 85,552,640 (16) or 81,620,480 (4). The code's 'group size 4' gives 4 query heads to each "
        "key-value head; as 16 / 4 is also 4, both readings agree here. Its code raises dropout from 0 to 0.1 over "
        "10,000 iterations; the schedule belongs to training.",
    ),
    Preset(
        name="stlm-50m-code",
        config=DecoderConfig(
            vocab_size=50257, context_length=512, n_layers=8, d_model=512, n_heads=16, n_kv_heads=4, d_ff=1320,
            dropout=0.1, **_LLAMA,
        ),
        source=f"The public code of {_STLM}, its baseline configuration in the week of the paper.",
        tokenizer="gpt2",
        published=True,
        note="8 layers and a feed-forward width of 1,320, where Table 1 of the paper prints 10 and 1,536.",
    ),
    Preset(
        name="layerdrop-12",
        config=DecoderConfig(
            vocab_size=10000, context_length=512, n_layers=12, d_model=512, n_heads=8, d_ff=2048,
            tied_head=True, **_VASWANI,
        ),
        source="A proposal on dynamic LayerDrop with distillation, section 4.1: 12 layers, 512, 8 heads, 2,048, "
        "a decoder as in Vaswani et al. 2017.",
        tokenizer="bpe-10000",
        published=True,
        note="Vocabulary, length, dropout, tying and the place of the norms are not stated. The kit takes a BPE of "
        "10,000 (so that the layers, not the embedding, hold most parameters), 512 positions, dropout 0.1 and a tied "
        "head as in Vaswani et al., and norms before each sub-layer, since dropping whole layers wants a clean "
        "residual path.",
    ),
    Preset(
        name="gpt2-small",
        config=DecoderConfig(
            vocab_size=50257, context_length=1024, n_layers=12, d_model=768, n_heads=12, d_ff=3072,
            dropout=0.1, **_GPT2,
        ),
        source="GPT-2 small (Radford et al. 2019, Language Models are Unsupervised Multitask Learners), as released.",
        tokenizer="gpt2",
        published=True,
        note="The paper's own 117M is a miscount; the released weights hold 124,439,808.",
    ),
    Preset(
        name="laptop-llama",
        config=DecoderConfig(
            vocab_size=2048, context_length=128, n_layers=4, d_model=128, n_heads=8, n_kv_heads=2, d_ff=384, **_LLAMA
        ),
        source="The kit's own: stlm-50m in small, for a minute on a laptop.",
        tokenizer="bpe-2048",
        published=False,
        note="Same proportions as stlm-50m: 4 query heads a key-value head, a feed-forward of 3 d_model.",
    ),
    Preset(
        name="laptop-gpt2",
        config=DecoderConfig(
            vocab_size=257, context_length=128, n_layers=4, d_model=128, n_heads=4, d_ff=512, **_GPT2
        ),
        source="The kit's own: GPT-2 in small, the character model of the first chapters.",
        tokenizer="bytes",
        published=False,
        note="No dropout: a minute of training does not over-fit.",
    ),
    Preset(
        name="laptop-memory",
        config=DecoderConfig(
            vocab_size=8192, context_length=127, n_layers=4, d_model=64, n_heads=4, d_ff=256,
            tied_head=False, head_bias=True, **{**_VASWANI, "dropout": 0.0},
        ),
        source="The kit's own: memory-study in small, for a step in a second on a laptop.",
        tokenizer="bpe-8192",
        published=False,
        note="A vocabulary large enough that the logits outweigh the layers, as in memory-study. No dropout: on a CPU "
        "torch's fused attention would fall back to the whole matrix.",
    ),
]  # fmt: skip
PRESETS: dict[str, Preset] = {entry.name: entry for entry in _ALL}


def preset_entry(name: str) -> Preset:
    """The preset called `name`, with its source and notes. UsageError with similar names where there is none."""
    if name not in PRESETS:
        hint = near(name, PRESETS) or f" There are {', '.join(PRESETS)}."
        raise UsageError(f"There is no preset named {name!r}.{hint}")
    return PRESETS[name]


def preset(name: str, **overrides) -> ModelConfig:
    """The configuration called `name`, with any settings replaced: `preset("stlm-50m", n_kv_heads=16)`.

    Raises UsageError for an unknown name (with similar names) and for settings that conflict.
    """
    config = preset_entry(name).config
    return type(config)(**{**config.model_dump(exclude_unset=True), **overrides})
