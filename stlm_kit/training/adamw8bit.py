"""AdamW with 8-bit moments, from torchao."""

from __future__ import annotations

import logging

import torch

logging.getLogger("torchao").setLevel(logging.ERROR)  # it warns about GPU kernels that a CPU build does not load

from torchao.optim import AdamW8bit, adam  # noqa: E402, F401 (a prediction reaches `adam` by way of here)


class EightBitAdamW(AdamW8bit):
    """torchao's AdamW with block-wise 8-bit moments (Dettmers et al. 2022): 256 numbers share one fp32 scale.

    Tensors of fewer than 4,096 numbers keep fp32 moments. torchao compiles the update, which avoids temporary copies on
    a GPU. On a CPU the compilation takes longer than a laptop's whole run, so the update runs uncompiled there.
    """

    def step(self, closure=None):
        """One update of all weights."""
        device = self.param_groups[0]["params"][0].device.type
        with torch.compiler.set_stance("default" if device == "cuda" else "force_eager"):
            return super().step(closure)
