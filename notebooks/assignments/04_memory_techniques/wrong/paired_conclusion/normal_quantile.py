"""Takes 1.96 for t, which holds for many seeds; two or three have a far wider interval."""


def paired_conclusion(baseline, method, claim):
    differences = [method[seed] - baseline[seed] for seed in baseline if seed in method]
    n = len(differences)
    if n < 2:
        return "cannot know", 0.0, -math.inf, math.inf
    mean = math.fsum(differences) / n
    spread = math.sqrt(math.fsum((each - mean) ** 2 for each in differences) / (n - 1))
    half = 1.96 * spread / math.sqrt(n)
    low, high = mean - half, mean + half
    if low <= 0 <= high:
        return "cannot know", mean, low, high
    found = "lower" if high < 0 else "higher"
    return "confirmed" if found == claim else "contradicted", mean, low, high
