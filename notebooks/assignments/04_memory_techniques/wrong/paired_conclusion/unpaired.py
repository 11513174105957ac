"""Compares the two means with the spread of all scores, in which the seeds' own differences stay."""


def paired_conclusion(baseline, method, claim):
    seeds = [seed for seed in baseline if seed in method]
    n = len(seeds)
    if n < 2:
        return "cannot know", 0.0, -math.inf, math.inf
    means = [math.fsum(scores[seed] for seed in seeds) / n for scores in (baseline, method)]
    squares = [
        math.fsum((scores[seed] - mean) ** 2 for seed in seeds)
        for scores, mean in zip((baseline, method), means, strict=True)
    ]
    difference = means[1] - means[0]
    half = STUDENT_T[0.95][min(2 * n - 2, 12)] * math.sqrt(sum(squares) / (n - 1) / n)
    low, high = difference - half, difference + half
    if low <= 0 <= high:
        return "cannot know", difference, low, high
    found = "lower" if high < 0 else "higher"
    return "confirmed" if found == claim else "contradicted", difference, low, high
