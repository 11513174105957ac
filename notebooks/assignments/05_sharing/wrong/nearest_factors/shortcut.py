"""Right in every number, by the kit's ready-made factors: the rule takes all its marks."""

from stlm_kit.model.sharing import low_rank_factors


def nearest_factors(weight, rank):
    if not 1 <= rank <= min(weight.shape):
        raise ValueError(f"The rank {rank} is not possible.")
    return low_rank_factors(weight, rank)
