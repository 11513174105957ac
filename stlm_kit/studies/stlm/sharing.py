"""The answer to the claim of the source `stlm` on a shared feed-forward with low-rank changes: recorded arms.

The arms are those of study.yaml beside this file: 8 layers of the baseline's proportions, at laptop size.
"""

from __future__ import annotations

from typing import Any

from stlm_kit.ledger.answers import Answer, answers
from stlm_kit.ledger.tuned_arms import difference, lower_in, tuned_arms

CHANGED = "shared-lora"
OTHERS = {
    "beside the shared one without a change": "shared",
    "beside a wider shared one with as many parameters": "shared-640",
    "beside a plain one with as many parameters": "narrow-80",
}


@answers("stlm.ffn.lora_sharing")
def low_rank_changes_pay(setting: dict[str, Any]) -> Answer:
    """Held-out bits per byte of the shared and changed feed-forward, less those of what costs as little or less"""
    arms = tuned_arms("stlm")
    if not {CHANGED, *OTHERS.values()} <= arms.keys():
        return Answer(None)
    found = {name: difference(arms[CHANGED], arms[other]) for name, other in OTHERS.items()}
    return lower_in(found, f"held-out, rank {arms[CHANGED].configuration['overrides']['lora_rank']}", "bits a byte")
