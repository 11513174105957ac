"""Parameter counts of presets, by group, for several answers of the ledger."""

from __future__ import annotations

from functools import cache

from stlm_kit.presets import preset

MIB = 2**20
STATE_BYTES = 16  # bytes of a parameter with its gradient and AdamW's two moments, all in fp32


@cache
def counted(name: str, **overrides) -> dict[str, int]:
    """Parameters of a preset by group, and their "total". Counted on the meta device, where weights take no memory."""
    import torch

    from stlm_kit.model import build_model, parameter_table

    with torch.device("meta"):
        table = parameter_table(build_model(preset(name, **overrides)))
    return {**table, "total": sum(table.values())}
