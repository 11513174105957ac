"""A recipe: how a training step is computed. The preset says what is computed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import ClassVar, Literal

import torch

from stlm_kit.errors import UsageError, near

Exactness = Literal["exact", "approximate", "altered"]


@dataclass(frozen=True)
class Recipe:
    """How a step is computed, with one choice for each field. Every combination that makes sense is allowed.

    exactness: how the result compares with the plain fp32 step. *exact*: the same loss, gradients and update, up to the
    order of sums. *approximate*: within `bound`. *altered*: another update (in-backward cannot clip, because the global
    norm is not known yet).

    Raises UsageError with one sentence for choices that exclude each other.
    """

    # Operands of matrix products: 24, 11, 8 or 11 significant bits. Weights and optimizer state stay in fp32
    # (Micikevicius et al. 2018, section 3). fp16 scales its loss, because its smallest numbers are 2^-24.
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    attention: Literal["eager", "sdpa", "flex", "flash"] = "sdpa"
    # What a block saves for the backward pass: everything; its input only (Chen et al. 2016); its matrix products; or
    # its input only, while it computes a few rows at a time.
    checkpointing: Literal["none", "layer", "selective", "tiled"] = "none"
    # plain: all logits at once. chunked: never all (loss.py). masked: a copy of the rows with a real target.
    loss: Literal["plain", "chunked", "masked"] = "plain"
    head_positions: Literal["all", "valid"] = "all"  # valid: padding is dropped before the head
    outputs: Literal["dropped", "kept"] = "dropped"  # kept: the logits stay alive until the next step's replace them
    # fused: one kernel a tensor. foreach: one kernel a kind of operation, over all tensors. 8bit: moments in 8 bits.
    optimizer: Literal["fused", "foreach", "8bit"] = "fused"
    update: Literal["after", "in_backward"] = "after"  # in_backward: each weight once its gradient is complete

    # Each named part sets some fields; "bf16+flash" composes two of them.
    NAMES: ClassVar[dict[str, dict[str, str]]] = {
        "fp32": {"precision": "fp32"},
        "tf32": {"precision": "tf32"},
        "bf16": {"precision": "bf16"},
        "fp16": {"precision": "fp16"},
        "eager": {"attention": "eager"},
        "sdpa": {"attention": "sdpa"},
        "flex": {"attention": "flex"},
        "flash": {"attention": "flash"},  # in bf16 unless a precision is named
        "checkpoint": {"checkpointing": "layer"},
        "selective": {"checkpointing": "selective"},
        "tiled": {"checkpointing": "tiled"},
        # The memory study's own loop: its figures are only reproduced with the same computation.
        "study": {"loss": "masked", "outputs": "kept", "optimizer": "foreach"},
        "chunked": {"loss": "chunked"},
        "masked": {"loss": "masked"},
        "valid": {"head_positions": "valid"},
        "kept": {"outputs": "kept"},
        "foreach": {"optimizer": "foreach"},
        "8bit": {"optimizer": "8bit"},
        "in-backward": {"update": "in_backward"},
    }

    def __post_init__(self) -> None:
        for wrong, sentence in (
            (
                self.attention == "flash" and self.precision in ("fp32", "tf32"),
                f"flash-attn computes in 16 bits, not in {self.precision}; choose bf16+flash or sdpa.",
            ),
            (
                self.outputs == "kept" and self.loss == "chunked",
                "A chunked loss never has all logits, so it cannot keep them; leave out chunked or kept.",
            ),
            (
                self.loss == "masked" and self.head_positions == "valid",
                "masked copies the rows of all logits, valid never makes the others; leave out one of them.",
            ),
            (
                self.update == "in_backward" and self.precision == "fp16",
                "fp16 has to see every gradient before the first update, in-backward does not wait; use bf16.",
            ),
        ):
            if wrong:
                raise UsageError(sentence)

    @classmethod
    def named(cls, name: str) -> Recipe:
        """The recipe of a name such as "bf16" or "bf16+eager".

        UsageError for an unknown part or two parts in conflict.
        """
        chosen: dict[str, str] = {}
        for part in name.split("+"):
            if part not in cls.NAMES:
                known = ", ".join(cls.NAMES)
                raise UsageError(
                    f"There is no recipe part {part!r} in {name!r}; known: {known}.{near(part, cls.NAMES)}"
                )
            for field, value in cls.NAMES[part].items():
                if chosen.setdefault(field, value) != value:
                    raise UsageError(
                        f"The recipe {name!r} asks for {field} {chosen[field]!r} and {value!r} at once; choose one."
                    )
        if chosen.get("attention") == "flash":
            chosen.setdefault("precision", "bf16")
        return cls(**chosen)

    @property
    def name(self) -> str:
        """The shortest name of this recipe: its precision, then everything that is not the default."""
        left = {field.name for field in fields(self)[1:] if getattr(self, field.name) != field.default}
        parts = [self.precision]
        for part, settings in self.NAMES.items():
            if settings.keys() <= left and all(getattr(self, key) == value for key, value in settings.items()):
                parts.append(part)
                left -= settings.keys()
        return "+".join(parts)

    @property
    def exactness(self) -> Exactness:
        """ "exact", "approximate" or "altered"; see the class."""
        if self.update == "in_backward":
            return "altered"
        return "exact" if self.precision == "fp32" and self.optimizer != "8bit" else "approximate"

    @property
    def bound(self) -> float:
        """The stated relative error of loss, gradient and update (each as one vector); 0 where they are exact.

        It is twice the rounding of the operands. With 8-bit moments errors accumulate; the bound is for the weights'
        change over 20 steps.
        """
        rounding = {"fp32": 0.0, "tf32": 2 * 2.0**-11, "bf16": 2 * 2.0**-8, "fp16": 2 * 2.0**-11}[self.precision]
        return max(rounding, 2.0**-4 if self.optimizer == "8bit" else 0.0)

    def unsuitable(self, device_type: str) -> str | None:
        """Why this recipe cannot train on a device ("cpu", "cuda", "mps"), as one sentence, or None where it can."""
        if self.precision == "tf32" and device_type != "cuda":
            return "tf32 is a format of NVIDIA's GPUs (Ampere and later); use fp32 or bf16 here."
        if self.precision == "fp16" and device_type == "cpu":
            return "fp16 on a CPU is ten times slower than fp32, or worse; use bf16 or fp32, or a GPU."
        return None

    def autocast(self, device_type: str):
        """The autocast context of the forward pass on a device ("cpu", "cuda", "mps")."""
        if self.precision in ("fp32", "tf32"):
            return contextlib.nullcontext()
        return torch.autocast(device_type, dtype=torch.bfloat16 if self.precision == "bf16" else torch.float16)

    @contextlib.contextmanager
    def matmul_precision(self) -> Iterator[None]:
        """The context of a whole step: whether CUDA may round the operands of its fp32 matrix products to tf32.

        torch has two interfaces for this setting. From torch 2.9 on it refuses to read by one what was set only by the
        other. So within the context both are set, and afterwards both are restored.
        """
        backends = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
        before = [backend.fp32_precision for backend in backends]
        try:
            of_all = torch.get_float32_matmul_precision()
        except RuntimeError:  # the user set only one of the two
            of_all = None
        torch.set_float32_matmul_precision("high" if self.precision == "tf32" else "highest")
        try:
            yield
        finally:
            if of_all is not None:
                torch.set_float32_matmul_precision(of_all)
            for backend, precision in zip(backends, before, strict=True):
                backend.fp32_precision = precision

    def describe(self) -> dict[str, object]:
        """What a result row records of the recipe."""
        return {"name": self.name, "exactness": self.exactness, **asdict(self)}
