"""What is kept of a teacher's distribution at a position, and how it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor

from stlm_kit.data.batches import Batch
from stlm_kit.errors import UsageError
from stlm_kit.training.label_loss import check_temperature
from stlm_kit.training.teacher_outputs import FullLogits, Sampled, TeacherOutputs, TopK

PER_POSITION = tuple[tuple[int, ...], torch.dtype]  # the shape and the type of a tensor at one position


@dataclass(frozen=True)
class Kept:
    """Which outputs are kept: "full" logits, "top-k" with the rest as one outcome, or "sampled" tokens.

    k: how many tokens, for the last two. temperature: of the probabilities that are kept; "full" serves any. seed: of
    the draws. The draws are made once, so a student sees the same ones in each epoch. Values are in float32 and token
    ids in 16 or 32 bits. UsageError for choices out of range.
    """

    kind: Literal["full", "top-k", "sampled"]
    k: int | None = None
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("full", "top-k", "sampled"):
            raise UsageError(f"There is no kind of outputs {self.kind!r}; choose full, top-k or sampled.")
        if (self.kind == "full") != (self.k is None):
            raise UsageError(f"Outputs {self.kind!r} {'take no k' if self.kind == 'full' else 'need k'}; change k.")
        if self.k is not None and (isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1):
            raise UsageError(f"k = {self.k!r} will not do; give a whole number of 1 or more.")
        check_temperature(self.temperature)
        if self.kind == "full" and self.temperature != 1:
            raise UsageError("Full logits serve any temperature; leave temperature out.")

    def tensors(self, vocab_size: int) -> dict[str, PER_POSITION]:
        """Name, shape and type of what one position takes."""
        if self.kind == "full":
            return {"logits": ((vocab_size,), torch.float32)}
        ids = {"ids": ((self.k,), torch.int16 if vocab_size <= 2**15 else torch.int32)}
        if self.kind == "sampled":
            return {**ids, "entropy": ((), torch.float32)}
        return {**ids, "log_probs": ((self.k,), torch.float32), "log_tail": ((), torch.float32)}

    def bytes_per_position(self, vocab_size: int) -> int:
        """Bytes that one position takes."""
        return sum(prod(shape) * dtype.itemsize for shape, dtype in self.tensors(vocab_size).values())

    def of(self, logits: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The tensors of some positions from all their logits [positions, vocab]."""
        if self.kind == "full":
            found: TeacherOutputs = FullLogits(logits)
        elif self.kind == "top-k":
            found = TopK.of(logits, self.k, self.temperature)
        else:
            found = Sampled.of(logits, self.k, self.temperature, generator)
        wanted = self.tensors(logits.shape[-1])
        return {name: getattr(found, name).to(dtype).cpu() for name, (_, dtype) in wanted.items()}

    def outputs(self, tensors: Mapping[str, Tensor], vocab_size: int) -> TeacherOutputs:
        """The outputs of positions from their tensors. vocab_size: of the logits that they were made from."""
        if self.kind == "full":
            return FullLogits(tensors["logits"])
        ids = tensors["ids"].long()
        if self.kind == "top-k":
            return TopK(ids, tensors["log_probs"], tensors["log_tail"], self.temperature, vocab_size)
        weights = torch.full(ids.shape, 1 / self.k, device=ids.device)
        return Sampled(ids, weights, tensors["entropy"], self.temperature, vocab_size)

    def describe(self) -> dict:
        """The choices, for a configuration."""
        return asdict(self)


@dataclass(frozen=True)
class EmptyTeacher:
    """Outputs of the right shapes and any values, so that memory can be predicted before a cache is made."""

    kept: Kept
    vocab_size: int

    def outputs(self, batch: Batch) -> TeacherOutputs:
        """Zeros for each position of the batch."""
        n, device = batch.ids.numel(), batch.ids.device
        wanted = self.kept.tensors(self.vocab_size).items()
        zeros = {name: torch.zeros(n, *shape, dtype=dtype, device=device) for name, (shape, dtype) in wanted}
        return self.kept.outputs(zeros, self.vocab_size)

    def describe(self) -> dict:
        """The choices, for a configuration."""
        return self.kept.describe()
