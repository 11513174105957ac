"""Steps that are small enough to measure on any device: a head and its loss, one attention, a stack of blocks.

Each `..._step` returns a function of what `new_...` builds, as `stlm_kit.memory.measure_step` expects it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from stlm_kit.config import DecoderConfig
from stlm_kit.model.blocks import Block
from stlm_kit.training.activation_checkpointing import checkpointed

# By profile: positions, width, vocabulary of a head and rows of a chunk of its loss; lengths of an attention; rows of a
# batch and the sizes of a stack of blocks, where not those of the preset memory-study.
SIZES = {
    "laptop": {
        "positions": 512, "width": 64, "vocabulary": 16_384, "rows": 64, "lengths": [128, 256, 512], "batch": 4,
        "model": {"d_model": 64, "n_heads": 4, "d_ff": 256, "n_layers": 6},
    },
    "mig20": {
        "positions": 64 * 255, "width": 256, "vocabulary": 50_257, "rows": 1024, "lengths": [1024, 2048, 4096],
        "batch": 128, "model": {},
    },
}  # fmt: skip
Through = Callable[[Block, Tensor], Tensor]  # how features pass through a block


def loss_and_gradients(loss: Callable, seed: int = 0) -> list[Tensor]:
    """The loss of random features with a random head, and its gradients by features, weight and bias, in float64."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        head = nn.Linear(8, 100).double()
    x = torch.randn(2, 40, 8, dtype=torch.float64, generator=generator).requires_grad_()
    nats = loss(x, head, torch.randint(100, (2, 40), generator=generator))
    return [nats.detach(), *torch.autograd.grad(nats, [x, head.weight, head.bias])]


def head_step(loss: Callable, positions: int) -> Callable[[nn.Linear], None]:
    """Forward and backward of `loss(features, head, targets)` over random features of `positions` positions."""

    def step(head: nn.Linear) -> None:
        head.zero_grad()
        x = torch.randn(1, positions, head.in_features, device=head.weight.device, requires_grad=True)
        loss(x, head, torch.zeros(x.shape[:2], dtype=torch.long, device=x.device)).backward()

    return step


def attention_step(attention: Callable, length: int, device: str) -> Callable[[object], None]:
    """Forward and backward of `attention(q, k, v)`: two rows, four heads of 32 dimensions, `length` positions."""

    def step(_: object) -> None:
        q, k, v = (torch.randn(2, 4, length, 32, device=device, requires_grad=True) for _ in range(3))
        attention(q, k, v).sum().backward()

    return step


def new_blocks(config: DecoderConfig, device: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.ModuleList:
    """The blocks of a decoder. Seeds torch's generator, so that dropout draws the same masks afterwards."""
    torch.manual_seed(seed)
    return nn.ModuleList(Block(config) for _ in range(config.n_layers)).to(device, dtype)


def block_step(through: Through, batch_size: int, config: DecoderConfig) -> Callable[[nn.ModuleList], None]:
    """Forward and backward of a stack of blocks. `through(block, x)` says how features pass through each block."""

    def step(blocks: nn.ModuleList) -> None:
        blocks.zero_grad()
        weight = next(blocks.parameters())
        shape = batch_size, config.context_length, config.d_model
        x = torch.randn(shape, device=weight.device, dtype=weight.dtype, requires_grad=True)
        for block in blocks:
            x = through(block, x)
        x.pow(2).mean().backward()

    return step


def block_gradients(through: Through, config: DecoderConfig, device: str, how: str = "none") -> dict[str, Tensor]:
    """{name: gradient} of such a step with two rows in float64. how: the kind of activation checkpointing."""
    blocks = new_blocks(config, device, dtype=torch.float64)
    with checkpointed(blocks, how):
        block_step(through, 2, config)(blocks)
    return {name: weight.grad for name, weight in blocks.named_parameters()}
