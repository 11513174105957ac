"""AdamW whose two moments take 8 bits a number, through torchao."""

from __future__ import annotations

import logging

import torch

logging.getLogger("torchao").setLevel(logging.ERROR)  # it warns of GPU kernels that a CPU build does not load

from torchao.optim import AdamW8bit, adam  # noqa: E402, F401 (a prediction reaches `adam` by way of here)


class EightBitAdamW(AdamW8bit):
    """torchao's AdamW with block-wise 8-bit moments (Dettmers et al. 2022): 256 numbers share one fp32 scale.

    Tensors of fewer than 4,096 numbers keep fp32 moments. torchao compiles the update, which a GPU needs to avoid
    temporary copies; on a CPU compiling takes longer than a laptop's whole run, so there it is computed as written.
    """

    def step(self, closure=None):
        device = self.param_groups[0]["params"][0].device.type
        with torch.compiler.set_stance("default" if device == "cuda" else "force_eager"):
            return super().step(closure)
