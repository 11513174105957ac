"""What a model is: one frozen config. It says what is computed: sizes, the kind of norm, which keys a token attends to.

presets.py gives configs a name and a source. Nothing here imports torch, so `stlm --help` is quick.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from stlm_kit.errors import UsageError, first_sentence, near
from stlm_kit.layer_sharing import Pattern, numbered, owners
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
    sharing: Pattern = "none"  # which weights the layers have in common, by name: layer_sharing.py
    lora_rank: Size | None = None  # of the change that each layer adds to the matrices it shares; None: no change
    layer_index: bool = False  # a learned vector for each layer, added to the stream before it
    d_model: Size
    n_heads: Size
    n_kv_heads: Size | None = None  # None: as many as n_heads; 1 is multi-query attention
    head_dim: Size | None = None  # None becomes d_model / n_heads; Qwen3 sets it independently
    qk_norm: bool = False  # an RMSNorm over each head of the queries and keys, before positions (Qwen3)
    d_ff: Size
    factor_rank: Size | None = None  # each matrix of a feed-forward is a product of two with this rank between them
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
    # What writes into the stream starts divided by sqrt(2 n): n counts the layers, or the distinct weights among them.
    init_residuals: Literal["layers", "weights"] = "layers"

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
        if order is not None and self.sharing != "none":
            raise ValueError(f"sharing = {self.sharing!r} sets the order of the blocks; leave layer_order out.")
        if self.sharing == "looped" and self.n_layers < 3:
            raise ValueError(f"A looped middle needs a first, a last and a layer between; n_layers is {self.n_layers}.")
        if self.lora_rank is not None and self.sharing == "none":
            raise ValueError("lora_rank changes matrices that layers share; choose a sharing, or leave it out.")
        return self

    @property
    def kv_heads(self) -> int:
        """The number of key/value heads: n_kv_heads, or n_heads where that is None."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def order(self) -> tuple[int, ...]:
        """The block that each layer uses. Layers that share parts of blocks have a block each."""
        if self.layer_order is not None:
            return self.layer_order
        if self.shares_whole_blocks:
            return numbered(owners(self.sharing, self.n_layers).attention)
        return tuple(range(self.n_layers))

    @property
    def shares_whole_blocks(self) -> bool:
        """Whether layers have all weights of a block in common or none: then one block is used several times."""
        return self.lora_rank is None and owners(self.sharing, self.n_layers).whole_blocks

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
