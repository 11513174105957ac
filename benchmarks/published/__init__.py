"""The steps whose memory others measured and published, in plain torch: a case by name, from the shapes of a row."""

from collections.abc import Callable

from published.checkpointing import checkpointed_blocks
from published.gpt2 import train_gpt2
from published.losses import (
    cross_entropy,
    cut_cross_entropy_baseline,
    jsd,
    jsd_by_token,
    kl_div,
    linear_cross_entropy,
    tvd,
)
from published.mlps import gated_mlp
from published.norms import add_rms_norm, fused_rms_norm, group_norm, layer_norm, rms_norm_by_hand
from published.rotary import rope
from published.steps import Case, Shapes

CASES: dict[str, Callable[[Shapes], Case]] = {
    case.__name__: case
    for case in (
        add_rms_norm,
        checkpointed_blocks,
        cross_entropy,
        cut_cross_entropy_baseline,
        fused_rms_norm,
        gated_mlp,
        group_norm,
        jsd,
        jsd_by_token,
        kl_div,
        layer_norm,
        linear_cross_entropy,
        rms_norm_by_hand,
        rope,
        train_gpt2,
        tvd,
    )
}
