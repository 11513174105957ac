"""Right everywhere, by the kit's ready-made factors: only the rule takes its marks."""

from stlm_kit.model.sharing import low_rank_factors


def relaxed_start(trained, order, rank):
    blocks = range(max(order) + 1)
    shared = torch.stack([trained[[used == block for used in order]].mean(0) for block in blocks])
    pairs = [low_rank_factors(trained[i] - shared[block], rank) for i, block in enumerate(order)]
    lora_in, lora_out = zip(*pairs, strict=True)
    return shared, torch.stack(lora_in), torch.stack(lora_out)
