"""Which input position changes which output: the kit's test that no position depends on later tokens, and its plot."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from stlm_kit.errors import UsageError


@torch.no_grad()
def influence_matrix(
    model: nn.Module, ids: Int[Tensor, " seq"], documents: Int[Tensor, " seq"] | None = None, seed: int = 0
) -> Float[Tensor, "outputs inputs"]:
    """Entry (i, j): the norm of the change in output i's logits when noise is added to the embedding of input j.

    One batch holds the unchanged row and one copy for each input position. In that copy, noise with the embedding's own
    standard deviation is added to the position's embedding. So any dependence in the forward pass shows, differentiable
    or not. Changes below 1e-5 of the largest are rounding errors and are set to 0. Dropout is off during the call; the
    model's mode is restored.

    ids: one row of token ids. documents: the document number of each position, for a model that separates documents.
    Raises UsageError for ids that are not one row of at least 2 tokens, or a model without an `embedding`.
    """
    ids = torch.as_tensor(ids)
    ids = ids[0] if ids.ndim == 2 and len(ids) == 1 else ids
    if ids.ndim != 1 or len(ids) < 2:
        raise UsageError(f"Influence needs one row of at least 2 token ids; these have shape {tuple(ids.shape)}.")
    embedding = getattr(model, "embedding", None)
    if not isinstance(embedding, nn.Module):
        raise UsageError(f"{type(model).__name__} has no module called `embedding`, where influence nudges the input.")
    device = next(model.parameters()).device
    n = len(ids)

    def nudge(_module, _inputs, embedded: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(embedded.shape[-1], generator=generator).to(embedded) * embedded.std()
        nudged = embedded.clone()
        rows = torch.arange(n, device=embedded.device)
        nudged[rows + 1, rows] += noise  # copy j + 1 has noise at position j; copy 0 is unchanged
        return nudged

    was_training = model.training
    model.eval()
    hook = embedding.register_forward_hook(nudge)
    try:
        batch = ids.to(device).expand(n + 1, n)
        numbers = {} if documents is None else {"documents": torch.as_tensor(documents).to(device).expand(n + 1, n)}
        outputs = model(batch, **numbers).float()
    finally:
        hook.remove()
        model.train(was_training)
    change = (outputs[1:] - outputs[:1]).flatten(2).norm(dim=-1)  # [inputs, outputs]
    change[change < 1e-5 * change.max()] = 0
    return change.T.cpu()
