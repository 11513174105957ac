"""Counts in the kit's ready-made mask. Only the rule and the self-check for a matrix object."""

from stlm_kit.model.attention import visible


def visible_keys(seq, window):
    return int(visible(seq, window).sum())
