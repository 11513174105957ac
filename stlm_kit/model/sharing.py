"""Layers that share weights: whole blocks, parts of blocks, low-rank changes of a layer's own, factored matrices.

Shared weights are the same Parameter objects, so that they are stored, updated and counted once, and their gradient is
the sum over their uses. What a layer computes costs the same operations as with weights of its own.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stlm_kit.config import DecoderConfig
from stlm_kit.errors import UsageError
from stlm_kit.layer_sharing import owners
from stlm_kit.model.blocks import Attention, Block
from stlm_kit.model.layers import Factored, make_feed_forward, make_norm


class LowRankChange(nn.Module):
    """A shared matrix with a change of this layer's own beside it: shared(x) + lora_out(lora_in(x)).

    The change has rank r (Hu et al. 2022, section 4.1, at alpha = r). lora_out starts at 0, so that every layer begins
    with the shared matrix alone.
    """

    def __init__(self, shared: nn.Linear | Factored, rank: int) -> None:
        super().__init__()
        self.shared = shared
        self.lora_in = nn.Linear(shared.in_features, rank, bias=False)
        self.lora_out = nn.Linear(rank, shared.out_features, bias=False)

    def forward(self, x: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_out"]:
        return self.shared(x) + self.lora_out(self.lora_in(x))


class AssembledBlock(Block):
    """A block of parts that may belong to other blocks too."""

    def __init__(self, norm_1: nn.Module, attention: nn.Module, norm_2: nn.Module, feed_forward: nn.Module) -> None:
        nn.Module.__init__(self)
        self.norm_1, self.attention, self.norm_2, self.feed_forward = norm_1, attention, norm_2, feed_forward


def make_blocks(config: DecoderConfig) -> nn.ModuleList:
    """The decoder's blocks: distinct ones where layers share whole blocks (`config.order` says which layer uses which),
    else one for each layer, made of parts that may be shared.
    """
    if config.shares_whole_blocks:
        return nn.ModuleList(Block(config) for _ in range(config.n_blocks))
    who = owners(config.sharing, config.n_layers)
    attention = {owner: Attention(config) for owner in dict.fromkeys(who.attention)}
    feed_forward = {owner: make_feed_forward(config) for owner in dict.fromkeys(who.feed_forward)}
    norms = {owner: (make_norm(config), make_norm(config)) for owner in dict.fromkeys(who.norms)}
    blocks = nn.ModuleList()
    for layer in range(config.n_layers):
        (norm_1, norm_2), mixing = norms[who.norms[layer]], attention[who.attention[layer]]
        widening = feed_forward[who.feed_forward[layer]]
        if config.lora_rank is not None:
            mixing = _changed(mixing, config.lora_rank) if who.attention.count(who.attention[layer]) > 1 else mixing
            shared = who.feed_forward.count(who.feed_forward[layer]) > 1
            widening = _changed(widening, config.lora_rank) if shared else widening
        blocks.append(AssembledBlock(norm_1, mixing, norm_2, widening))
    return blocks


def _changed(part: nn.Module, rank: int) -> nn.Module:
    """A part that uses another's modules, but beside each shared matrix has a low-rank change of its own."""
    own = copy.copy(part)
    for name, held in vars(part).items():
        if isinstance(held, dict):  # parameters, children, hooks: a module keeps each kind in a dict
            own.__dict__[name] = held.copy()
    for name, child in part.named_children():
        if isinstance(child, (nn.Linear, Factored)):
            setattr(own, name, LowRankChange(child, rank))
    return own


# --- from trained weights ---


def low_rank_factors(
    weight: Float[Tensor, "d_out d_in"], rank: int
) -> tuple[Float[Tensor, "rank d_in"], Float[Tensor, "d_out rank"]]:
    """(first, second) with second @ first the nearest matrix of this rank, by the singular values (Eckart and Young
    1936); both share their square roots. Raises UsageError for a rank that the matrix does not have.
    """
    if not 1 <= rank <= min(weight.shape):
        raise UsageError(f"A matrix of {tuple(weight.shape)} has no rank {rank}; give 1 to {min(weight.shape)}.")
    left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
    roots = values[:rank].sqrt()
    return (roots[:, None] * right[:rank]).to(weight.dtype), (left[:, :rank] * roots).to(weight.dtype)


@torch.no_grad()
def share_trained(trained: nn.Module, shared: nn.Module) -> nn.Module:
    """Give a decoder that shares weights the mean of a trained one's over the layers that will share them.

    Both have the same sizes and number of layers; low-rank changes keep their start, so that the model begins as the
    average. Matrices that `shared` holds as two factors get those of the mean. Raises UsageError where sizes differ.
    Gives `shared`.
    """
    sums: dict[int, tuple[nn.Parameter, Tensor, int]] = {}
    mine, theirs = list(shared.layers()), list(trained.layers())
    if len(mine) != len(theirs):
        raise UsageError(f"The trained model has {len(theirs)} layers and this one {len(mine)}; make them agree.")
    for block, source in zip(mine, theirs, strict=True):
        weights = dict(source.named_parameters())
        for name, parameter in block.named_parameters():
            plain = name.replace(".shared", "")
            if plain in weights:
                _, total, count = sums.get(id(parameter), (parameter, 0, 0))
                sums[id(parameter)] = parameter, total + weights[plain].double(), count + 1
    for parameter, total, count in sums.values():
        if parameter.shape != total.shape:
            raise UsageError(f"Weights of {tuple(total.shape)} do not fit {tuple(parameter.shape)}; take equal sizes.")
        parameter.copy_(total / count)
    _share_factors(list(zip(mine, theirs, strict=True)))
    outside = {name: value for name, value in trained.named_parameters() if not name.startswith("blocks.")}
    for name, parameter in shared.named_parameters():
        if name in outside:
            parameter.copy_(outside[name])
    return shared


def _share_factors(layers: list[tuple[nn.Module, nn.Module]]) -> None:
    """Fill each factored matrix with the factors of the mean of the trained matrices that it stands for."""
    means: dict[int, tuple[Factored, list[Tensor]]] = {}
    for block, source in layers:
        matrices = dict(source.named_modules())
        for name, module in block.named_modules():
            if isinstance(module, Factored):
                found = means.setdefault(id(module), (module, []))
                found[1].append(matrices[name.replace(".shared", "")].weight.double())
    for module, weights in means.values():
        first, second = low_rank_factors(torch.stack(weights).mean(0), module.rank)
        module.first.weight.copy_(first)
        module.second.weight.copy_(second)
