"""The parameters that training changes: all of a model's or a named subset, and those of a loss with its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from stlm_kit.errors import UsageError, near

# Subsets by name. A setting may also give its own patterns, such as "blocks.3.*".
SUBSETS = {
    "all": ["*"],
    "attention": ["*.attention.*"],
    "feed_forward": ["*.feed_forward.*"],
    "norms": ["*norm*"],
    "biases": ["*.bias"],
    "embedding": ["embedding.*"],
    "head": ["head.*"],
}
LOSS = "loss."  # the prefix of a loss's parameters, to distinguish them from the model's


def train_only(model: nn.Module, names: Sequence[str] | None) -> None:
    """Freeze every parameter of `model` that no name or pattern of `names` matches. None leaves the model unchanged.

    A tied head is the embedding's matrix and has the embedding's name. Raises UsageError for a name that matches
    nothing.
    """
    if names is None:
        return
    own = dict(model.named_parameters())
    wanted = set()
    for name in names:
        covered = {each for each in own for pattern in SUBSETS.get(name, [name]) if fnmatchcase(each, pattern)}
        if not covered:
            raise UsageError(
                f"trainable = {name!r} covers no parameter of this model; give {', '.join(SUBSETS)}, or a pattern such "
                f"as 'blocks.0.*'.{near(name, [*SUBSETS, *own])}"
            )
        wanted |= covered
    for name, parameter in own.items():
        parameter.requires_grad_(name in wanted)


def named_trainable(model: nn.Module, loss: object = None) -> Iterator[tuple[str, nn.Parameter]]:
    """(name, parameter) for each trained parameter: the model's, then the loss's with the prefix "loss."."""
    for prefix, module in (("", model), (LOSS, loss)):
        if isinstance(module, nn.Module):
            for name, parameter in module.named_parameters():
                if parameter.requires_grad:
                    yield f"{prefix}{name}", parameter


def ready(loss: object) -> object:
    """A loss ready for training.

    A module is put in training mode, except its frozen parts (a teacher's dropout is off).
    """
    if isinstance(loss, nn.Module):
        loss.train()
        for name in _frozen_parts(loss):
            loss.get_submodule(name).eval()
    return loss


def _frozen_parts(module: nn.Module) -> list[str]:
    """The names of the parts with parameters of which none is trained."""
    return [
        name
        for name, part in module.named_modules()
        if name and (own := list(part.parameters())) and not any(parameter.requires_grad for parameter in own)
    ]


def describe_loss(loss: object) -> dict[str, object]:
    """A loss in a run's configuration: its name, and a hash of its frozen tensors (a teacher's weights).

    Its settings as well, where it has a method `describe` that returns them.
    """
    name = getattr(loss, "__qualname__", None) or type(loss).__qualname__
    said = {"settings": loss.describe()} if hasattr(loss, "describe") else {}
    if not isinstance(loss, nn.Module):
        return {"name": name, "frozen": None, **said}
    changing = changing_tensors(loss)
    digest = hashlib.sha256()
    for key, tensor in sorted(saved_tensors(loss).items()):
        if key not in changing:
            digest.update(key.encode() + tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    frozen = digest.hexdigest() if len(changing) < len(saved_tensors(loss)) else None
    return {"name": name, "frozen": frozen, **said}


def saved_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter once (a tied matrix under its first name) and every saved buffer, as views of `module`'s
    memory.
    """
    saved = module.state_dict()
    named = [*module.named_parameters(), *module.named_buffers()]  # both list a shared tensor once
    return {name: tensor.detach() for name, tensor in named if name in saved}


def changing_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The `saved_tensors` that training can change: trained parameters, and buffers.

    Buffers of a part whose parameters are all frozen, such as a teacher inside a loss, are left out.
    """
    still = tuple(f"{name}." for name in _frozen_parts(module))
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    buffers = {name for name, _ in module.named_buffers()}
    return {
        name: tensor
        for name, tensor in saved_tensors(module).items()
        if name in trained or (name in buffers and not name.startswith(still))
    }
