"""Right everywhere, by torch's ready-made checkpointing: only the rule takes its marks."""

from torch.utils.checkpoint import checkpoint


def checkpoint_segment(segment, x):
    return checkpoint(segment, x, use_reentrant=False)
