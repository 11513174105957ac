"""Generate text with a model, greedily or by sampling, one token at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from stlm_kit.errors import KitError, UsageError

if TYPE_CHECKING:
    from stlm_kit.data.tokenizers import Tokenizer
    from stlm_kit.model.language_model import LanguageModel


@torch.no_grad()
def generate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str = "",
    max_new_tokens: int = 100,
    temperature: float = 0.0,
    seed: int = 0,
    stop_at_end: bool = True,
) -> str:
    """The prompt followed by up to `max_new_tokens` generated tokens.

    temperature: 0 takes the most likely token each time. Above 0, tokens are drawn from softmax(logits / temperature)
    with a separate random generator. So the same seed gives the same text, and the global random state does not change.
    stop_at_end: stop where the model ends the document. Otherwise it continues with the next document.

    An empty prompt starts a new document. A context longer than the model's `context_length` is cut to its last part.
    Raises UsageError for a setting out of range, KitError for a prompt with tokens outside the model's vocabulary.
    """
    if not isinstance(prompt, str):
        raise UsageError(f"The prompt must be a text, and this is a {type(prompt).__name__}; decode token ids first.")
    if max_new_tokens < 0:
        raise UsageError(f"max_new_tokens = {max_new_tokens} will not do: give 0 or more.")
    if not 0 <= temperature < float("inf"):
        raise UsageError(f"temperature = {temperature} will not do: give 0 (always the likeliest token) or more.")
    if not 0 <= seed < 2**63:
        raise UsageError(f"seed = {seed} will not do: give a whole number of 0 or more, below 2**63.")
    ids = prompt_ids(model, tokenizer, prompt)
    n_prompt, device = len(ids), next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    was_training = model.training
    model.eval()
    try:
        state = model.begin(torch.tensor([ids], device=device)) if max_new_tokens else None
        for number in range(max_new_tokens):
            logits = model.next_logits(state)[0, : tokenizer.vocab_size]
            chosen = pick(logits.float().cpu(), temperature, generator)
            if stop_at_end and chosen == tokenizer.end_of_document:
                break
            ids.append(chosen)
            if number + 1 < max_new_tokens:
                state = model.extend(state, torch.tensor([chosen], device=device))
    finally:
        model.train(was_training)
    return prompt + tokenizer.decode(ids[n_prompt:])


def prompt_ids(model: LanguageModel, tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The ids of an end of document, then of the prompt. Every document began this way in training.

    Raises KitError for half a character (a lone surrogate) and for a tokenizer that is not the model's.
    """
    ids = [tokenizer.end_of_document, *tokenizer.encode(prompt)]
    if max(ids) >= model.config.vocab_size:
        raise KitError(
            f"The prompt has the token {max(ids)} and the model knows {model.config.vocab_size:,} tokens; "
            "use the tokenizer it was trained with."
        )
    return ids


def pick(logits: Float[Tensor, " vocab"], temperature: float, generator: torch.Generator) -> int:
    """The id of the next token: the most likely at temperature 0, else a draw from softmax(logits / temperature).

    Raises KitError where the logits are not numbers.
    """
    if not torch.isfinite(logits).any() or torch.isnan(logits).any():
        raise KitError("The model's logits are not numbers; its training has gone wrong, use an earlier checkpoint.")
    if temperature == 0:
        return int(logits.argmax())
    # float64, with the maximum subtracted first: so no temperature overflows, and 0 / temperature stays 0.
    scaled = (logits - logits.max()).double() / temperature
    return int(torch.multinomial(scaled.softmax(-1).to(logits.dtype), 1, generator=generator))
