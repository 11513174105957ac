"""Evaluation of a model: perplexity, bits per byte, and influence. Nothing here trains."""

from stlm_kit.evaluation.influence import influence_matrix
from stlm_kit.evaluation.perplexity import Perplexity, evaluate_text, evaluate_tokens

__all__ = ["Perplexity", "evaluate_text", "evaluate_tokens", "influence_matrix"]
