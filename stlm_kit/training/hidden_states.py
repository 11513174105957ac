"""Hidden-state matching: layers of a student, projected to the teacher's width, beside layers of the teacher.

Sun et al. 2019 (Patient Knowledge Distillation) and Jiao et al. 2020 (TinyBERT, equation 8) do this for encoders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stlm_kit.errors import UsageError
from stlm_kit.training.label_loss import check_number


class HiddenStates(nn.Module):
    """A distance between the streams of pairs of layers, averaged over the pairs.

    layers: pairs (layers of the student, layers of the teacher): the streams after that many layers, 0 is the
    embedding. Each pair has a trained matrix [teacher_width, student_width] without a bias, which starts as
    `nn.Linear` does, from torch's global generator. distance: "mean_squared", over the teacher's width, or "cosine", 1
    minus the cosine, which ignores lengths. Both have no unit, so they are not nats; weight: the factor of the distance
    in the loss.

    UsageError for no pair, another distance, and widths or a weight out of range.
    """

    def __init__(
        self,
        layers: Sequence[tuple[int, int]],
        student_width: int,
        teacher_width: int,
        distance: Literal["mean_squared", "cosine"] = "mean_squared",
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        if distance not in ("mean_squared", "cosine"):
            raise UsageError(f"There is no distance {distance!r}; choose mean_squared or cosine.")
        if not layers:
            raise UsageError("Hidden states need a pair of layers to compare; give layers=[(2, 4)], say.")
        check_number("weight", weight, 0)
        for name, width in (("student_width", student_width), ("teacher_width", teacher_width)):
            check_number(name, width, 1)
        self.layers = [(int(student), int(teacher)) for student, teacher in layers]
        self.distance, self.weight = distance, weight
        self.projections = nn.ModuleList(nn.Linear(student_width, teacher_width, bias=False) for _ in self.layers)

    def forward(
        self, students: Sequence[Float[Tensor, "batch seq student_width"]],
        teachers: Sequence[Float[Tensor, "batch seq teacher_width"]],
    ) -> Float[Tensor, "batch seq"]:  # fmt: skip
        """The distance at each position, at least in float32. UsageError for streams of another width."""
        found = []
        for projection, student, teacher in zip(self.projections, students, teachers, strict=True):
            for whose, stream, width in (
                ("student", student, projection.in_features),
                ("teacher", teacher, projection.out_features),
            ):
                if stream.shape[-1] != width:
                    raise UsageError(
                        f"The {whose}'s streams are {stream.shape[-1]} wide and {whose}_width is {width}; make them "
                        "agree."
                    )
            mine = projection(student)
            mine = mine.to(torch.promote_types(mine.dtype, torch.float32))
            theirs = teacher.to(mine.dtype)
            if self.distance == "cosine":
                found.append(1 - F.cosine_similarity(mine, theirs, dim=-1))
            else:
                found.append((mine - theirs).square().mean(-1))
        return torch.stack(found).mean(0)

    def describe(self) -> dict:
        """The settings, for a run's configuration."""
        return {"layers": self.layers, "distance": self.distance, "weight": self.weight}
