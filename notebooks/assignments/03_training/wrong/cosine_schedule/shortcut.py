"""Right everywhere, by the kit's ready-made schedule: only the rule takes its marks."""

from stlm_kit.training.schedules import warmup_cosine


def cosine_schedule(step, steps, warmup, peak):
    return warmup_cosine(min(step, steps), steps=steps, warmup_steps=warmup, peak=peak, minimum=0.1 * peak)
