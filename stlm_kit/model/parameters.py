"""Parameters counted by storage, so that a matrix that two layers share counts once."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

GROUPS = ("embedding", "positions", "attention", "feed_forward", "norms", "head")


def count_parameters(module: nn.Module) -> int:
    """How many numbers training can change.

    Tied matrices count once; buffers (sinusoids, rotary tables) do not count.
    """
    return sum(parameter.numel() for _, parameter in distinct_parameters(module))


def parameter_table(module: nn.Module) -> dict[str, int]:
    """The count by group: embedding, positions, attention, feed_forward, norms, head. The groups add up to the count.

    A tied head shows 0 (plus its bias, if any), because its matrix is the embedding's. Parts with other names are
    "other".
    """
    table = dict.fromkeys(GROUPS, 0)
    for name, parameter in distinct_parameters(module):
        group = _group(name)
        table[group] = table.get(group, 0) + parameter.numel()
    return table


def distinct_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Each named parameter whose memory no earlier one has. A shared matrix has the name that comes first."""
    seen = set()
    for name, parameter in module.named_parameters(remove_duplicate=False):
        # Compared is the storage object, because meta and fake tensors all report address 0.
        place = (parameter.untyped_storage()._cdata, parameter.storage_offset())
        if place not in seen:
            seen.add(place)
            yield name, parameter


def _group(name: str) -> str:
    parts = name.split(".")
    return next((group for group in GROUPS if group in parts), "norms" if "norm" in name else "other")
