"""Pictures: pure functions from data to a matplotlib Figure, all in one house style.

A notebook cell ends in the Figure; a widget (widgets.py) redraws one of these functions. Nothing here opens a window
or touches matplotlib's global settings.
"""

from stlm_kit.plots.attention import attention_weights, influence, influence_row
from stlm_kit.plots.basic import grouped_bars, lines
from stlm_kit.plots.decoder_parts import gate, key_sharing, rotary_pairs
from stlm_kit.plots.distillation import averaged, labels_and_entropy, loss_and_score, next_tokens, one_bump
from stlm_kit.plots.distillation_results import loss_and_held_out
from stlm_kit.plots.forward_pass import forward_pass
from stlm_kit.plots.ledger import VERDICT_COLOURS, published_found
from stlm_kit.plots.memory_savings import printed_cells, waterfall
from stlm_kit.plots.memory_step import CATEGORY_COLOURS, memory_stack, step_memory, step_totals, tensors_alive
from stlm_kit.plots.results import estimates
from stlm_kit.plots.sharing import sharing_costs, sharing_patterns
from stlm_kit.plots.sharing_results import against_size, curves, rank_against_error
from stlm_kit.plots.sizes import GROUP_COLOURS, decoder_size, parameters
from stlm_kit.plots.style import PALETTE, STYLE, describe, figure, house_style
from stlm_kit.plots.text import packing, token_strips
from stlm_kit.plots.training import losses, running_mean, schedule_and_loss, seeds, validation_loss

__all__ = [
    "CATEGORY_COLOURS",
    "GROUP_COLOURS",
    "PALETTE",
    "STYLE",
    "VERDICT_COLOURS",
    "against_size",
    "attention_weights",
    "averaged",
    "curves",
    "decoder_size",
    "describe",
    "estimates",
    "figure",
    "forward_pass",
    "gate",
    "grouped_bars",
    "house_style",
    "influence",
    "influence_row",
    "key_sharing",
    "labels_and_entropy",
    "lines",
    "loss_and_held_out",
    "loss_and_score",
    "losses",
    "memory_stack",
    "next_tokens",
    "one_bump",
    "packing",
    "parameters",
    "printed_cells",
    "published_found",
    "rank_against_error",
    "rotary_pairs",
    "running_mean",
    "schedule_and_loss",
    "seeds",
    "sharing_costs",
    "sharing_patterns",
    "step_memory",
    "step_totals",
    "tensors_alive",
    "token_strips",
    "validation_loss",
    "waterfall",
]
