"""The parts of a block except attention: norms, positions, feed-forward layers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from stlm_kit.config import DecoderConfig
from stlm_kit.errors import KitError
from stlm_kit.rope_scaling import LinearRope, Llama3Rope

CosSin = tuple[Float[Tensor, "seq half"], Float[Tensor, "seq half"]]  # of the angles of each position


def make_norm(config: DecoderConfig) -> nn.Module:
    """The norm of the config: LayerNorm (Ba et al. 2016) or RMSNorm (Zhang and Sennrich 2019).

    LayerNorm centres and scales each position; RMSNorm only scales it.
    """
    if config.norm == "rmsnorm":
        return nn.RMSNorm(config.d_model, eps=config.norm_epsilon)
    return nn.LayerNorm(config.d_model, eps=config.norm_epsilon, bias=config.bias)


class Tables(nn.Module):
    """A module whose buffers are computed tables. They stay float32 when the model is cast to another type.

    A table rounded to bf16 could not be restored by `model.float()`. So code that reads a table casts the values it
    reads.
    """

    def _apply(self, fn, recurse=True):
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, table in before.items():
            if self._buffers[name].dtype != table.dtype:
                self._buffers[name] = table.to(self._buffers[name].device)
        return self


class LearnedPositions(nn.Module):
    """One trained vector for each position, added to the token embeddings (Radford et al. 2018)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.context_length, config.d_model))

    def forward(self, x: Float[Tensor, "batch seq d_model"], start: int = 0) -> Float[Tensor, "batch seq d_model"]:
        """x, [batch, seq, d_model], plus the vectors of its positions, which count from `start`.

        Raises KitError for more positions than were learned.
        """
        end, room = start + x.shape[1], self.weight.shape[0]
        if end > room:
            raise KitError(
                f"The input has {end} positions but this model learned only {room}; "
                "shorten the input, or use rotary or sinusoidal positions."
            )
        return x + self.weight[start:end]


def sinusoids(length: int, width: int, base: float = 10000.0) -> Float[Tensor, "length width"]:
    """Sines in the even columns, cosines in the odd ones (Vaswani et al. 2017, section 3.5)."""
    rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(base) / width))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class SinusoidalPositions(Tables):
    """Fixed sines and cosines added to the token embeddings: a buffer, which is not trained, counted or saved."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.register_buffer("table", sinusoids(config.context_length, config.d_model), persistent=False)

    def forward(self, x: Float[Tensor, "batch seq d_model"], start: int = 0) -> Float[Tensor, "batch seq d_model"]:
        """x, [batch, seq, d_model], plus the sinusoids of its positions, which count from `start`."""
        end = start + x.shape[1]
        if end > self.table.shape[0]:  # longer than in training: defined as well, but computed each time
            return x + sinusoids(end, x.shape[2])[start:].to(x)
        return x + self.table[start:end].to(x.dtype)


def rotary_rates(width: int, base: float, scaling: LinearRope | Llama3Rope | None = None) -> Float[Tensor, " half"]:
    """The rotation of pair i of a head, in radians a position: base^(-2i / width) (Su et al. 2021, section 3.2.2).

    Scaled rates are computed in the same order of operations as in transformers, so that the numbers are equal.
    """
    if scaling is None:
        return base ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    rates = 1.0 / (base ** (torch.arange(0, width, 2, dtype=torch.float32) / width))
    if scaling.kind == "linear":
        return rates / scaling.factor
    low, high, context = scaling.low_frequency, scaling.high_frequency, scaling.original_context
    wave = 2 * math.pi / rates  # in positions
    stretched = torch.where(wave > context / low, rates / scaling.factor, rates)
    share = (context / wave - low) / (high - low)
    blended = (1 - share) * stretched / scaling.factor + share * stretched
    between = ~(wave < context / high) & ~(wave > context / low)
    return torch.where(between, blended, stretched)


def rotary_angles(
    length: int, width: int, base: float, scaling: LinearRope | Llama3Rope | None = None
) -> Float[Tensor, "length half"]:
    """The angle, in radians, by which position p rotates pair i of a head: p times the pair's rate."""
    return torch.arange(length, dtype=torch.float32)[:, None] * rotary_rates(width, base, scaling)


# the most positions in a table; a file may state any length, so later positions are computed when needed
MOST_ROWS = 2**17


class Rotary(Tables):
    """The cosines and sines of rotary positions, computed once for the model and shared by its blocks."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.width, self.base, self.scaling = config.head_dim, config.rope_base, config.rope_scaling
        angles = rotary_angles(min(config.context_length, MOST_ROWS), self.width, self.base, self.scaling)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, length: int, dtype: torch.dtype, start: int = 0) -> CosSin:
        """Cosines and sines of `length` positions, which count from `start`."""
        end = start + length
        if end > self.cos.shape[0]:
            angles = rotary_angles(end, self.width, self.base, self.scaling)[start:].to(self.cos)
            return angles.cos().to(dtype), angles.sin().to(dtype)
        return self.cos[start:end].to(dtype), self.sin[start:end].to(dtype)


def rotate(
    x: Float[Tensor, "batch heads seq head_dim"],
    cos: Float[Tensor, "seq half"],
    sin: Float[Tensor, "seq half"],
) -> Float[Tensor, "batch heads seq head_dim"]:
    """Rotate each pair (i, i + head_dim/2) by its position's angle.

    Hugging Face pairs the two halves of a head, Su et al. pair neighbours. The results are equal up to the order of
    columns.
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Factored(nn.Module):
    """A matrix as a product of two, with `rank` numbers between them: second(first(x)).

    The low-rank factorization of STLM, section 2.1: rank (d_in + d_out) parameters and as many multiplications a
    position, where one matrix has d_in d_out. Fewer below the rank d_in d_out / (d_in + d_out).
    """

    def __init__(self, d_in: int, d_out: int, rank: int, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features, self.rank = d_in, d_out, rank
        self.first = nn.Linear(d_in, rank, bias=False)
        self.second = nn.Linear(rank, d_out, bias=bias)

    def forward(self, x: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        return self.second(self.first(x))


def make_matrix(config: DecoderConfig, d_in: int, d_out: int) -> nn.Linear | Factored:
    """A matrix of a feed-forward: whole, or factored where the config has a `factor_rank`."""
    if config.factor_rank is None:
        return nn.Linear(d_in, d_out, bias=config.bias)
    return Factored(d_in, d_out, config.factor_rank, config.bias)


class FeedForward(nn.Module):
    """Two matrices with a GELU (Radford et al. 2018) or ReLU (Vaswani et al. 2017, section 3.3) between them.

    Dropout is applied to the output. The ReLU form also applies it after the activation, as in the memory study's code.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.up = make_matrix(config, config.d_model, config.d_ff)
        self.down = make_matrix(config, config.d_ff, config.d_model)
        self.kind = config.feed_forward
        self.hidden_dropout = nn.Dropout(config.dropout) if self.kind == "relu" else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "batch seq d_model"]:
        """The layer's output, [batch, seq, d_model], without the residual."""
        x = self.up(x)
        x = F.relu(x) if self.kind == "relu" else F.gelu(x, approximate="tanh" if self.kind == "gelu_tanh" else "none")
        return self.dropout(self.down(self.hidden_dropout(x)))


class SwiGLU(nn.Module):
    """Three matrices: the SiLU of one output multiplies another (Shazeer 2020, equation 6)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate = make_matrix(config, config.d_model, config.d_ff)
        self.up = make_matrix(config, config.d_model, config.d_ff)
        self.down = make_matrix(config, config.d_ff, config.d_model)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "batch seq d_model"]:
        """The layer's output, [batch, seq, d_model], without the residual."""
        return self.dropout(self.down(F.silu(self.gate(x)) * self.up(x)))


def make_feed_forward(config: DecoderConfig) -> FeedForward | SwiGLU:
    """The feed-forward layer that the config names."""
    return SwiGLU(config) if config.feed_forward == "swiglu" else FeedForward(config)


def check_ids(ids: Int[Tensor, "batch seq"], vocab_size: int) -> None:
    """Raise KitError for a token id outside the vocabulary.

    On a GPU this is skipped, as it would force a synchronization.
    """
    if ids.device.type != "cpu" or ids.numel() == 0 or torch.compiler.is_compiling():
        return
    if isinstance(ids, torch._subclasses.FakeTensor):  # fake tensors have no ids to check
        return
    low, high = ids.aminmax()
    if low < 0 or high >= vocab_size:
        worst = int(low) if low < 0 else int(high)
        raise KitError(
            f"Token id {worst} lies outside the vocabulary of {vocab_size}; encode the text with the model's tokenizer."
        )
