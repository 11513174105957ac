"""A recipe says how a training step is computed; what is computed stays the preset's business."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, fields, replace
from typing import ClassVar, Literal

import torch

from stlm_kit.errors import UsageError, near

Exactness = Literal["exact", "approximate", "altered"]


@dataclass(frozen=True)
class Recipe:
    """How a step is computed: the precision of its matrix products, its attention backend, its loss.

    `exactness` says what that does to the mathematics. *exact*: the loss, gradients and update of the plain fp32 step,
    up to the order of sums. *approximate*: within `bound`. bf16 keeps weights and optimizer state in fp32 and rounds
    the operands of matrix products to 8 significant bits (Micikevicius et al. 2018, section 3, with bfloat16).
    """

    precision: Literal["fp32", "bf16"] = "fp32"
    attention: Literal["eager", "sdpa", "flex", "flash"] = "sdpa"
    loss: Literal["plain", "chunked"] = "plain"

    # Each named part sets some fields; "bf16+flash" composes two of them.
    NAMES: ClassVar[dict[str, dict[str, str]]] = {
        "fp32": {"precision": "fp32"},
        "bf16": {"precision": "bf16"},
        "eager": {"attention": "eager"},
        "sdpa": {"attention": "sdpa"},
        "flex": {"attention": "flex"},
        "flash": {"attention": "flash", "precision": "bf16"},  # flash-attn computes in 16 bits only
        "chunked": {"loss": "chunked"},  # never holds all logits at once (loss.py)
    }

    @classmethod
    def named(cls, name: str) -> Recipe:
        """The recipe of a name such as "bf16" or "bf16+eager"; UsageError for an unknown part or two that disagree."""
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
        return replace(cls(), **chosen)

    @property
    def name(self) -> str:
        """The shortest name that gives this recipe back: its precision, then whatever is not the default."""
        extras = [getattr(self, field.name) for field in fields(self)[1:] if getattr(self, field.name) != field.default]
        return "+".join([self.precision, *extras])

    @property
    def exactness(self) -> Exactness:
        return "exact" if self.precision == "fp32" else "approximate"

    @property
    def bound(self) -> float:
        """The relative error stated for an approximate recipe's loss: two bf16 roundings, 2 * 2**-8; 0 where exact."""
        return 0.0 if self.exactness == "exact" else 2 * 2.0**-8

    def autocast(self, device_type: str):
        """The context in which the forward pass runs on a device ("cpu", "cuda", "mps")."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(device_type, dtype=torch.bfloat16)

    def describe(self) -> dict[str, object]:
        """What a result row records of the recipe."""
        return {"name": self.name, "exactness": self.exactness, **asdict(self)}
