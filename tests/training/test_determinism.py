"""What a run draws at each step."""

import torch

from stlm_kit.training.determinism import step_seed


def test_seeds_and_steps_draw_masks_of_their_own():
    """On a CPU too, whose generator reads the lower 32 bits of a seed."""
    drawn = set()
    for seed in (0, 1, 2**31):
        for number in (1, 2, 3):
            torch.manual_seed(step_seed(seed, number))
            drawn.add(tuple(torch.rand(4).tolist()))
    assert len(drawn) == 9
    assert step_seed(1, 2) == step_seed(1, 2)
