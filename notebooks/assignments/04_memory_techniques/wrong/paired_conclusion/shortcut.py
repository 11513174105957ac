"""Right everywhere, by scipy's ready-made interval: only the rule takes its marks."""

from scipy.stats import sem, t


def paired_conclusion(baseline, method, claim):
    d = [method[seed] - baseline[seed] for seed in baseline if seed in method]
    if len(d) < 2:
        return "cannot know", 0.0, -math.inf, math.inf
    mean = sum(d) / len(d)
    low, high = t.interval(0.95, len(d) - 1, loc=mean, scale=sem(d) or 1e-12)
    if low <= 0 <= high:
        return "cannot know", mean, low, high
    found = "lower" if high < 0 else "higher"
    return "confirmed" if found == claim else "contradicted", mean, low, high
