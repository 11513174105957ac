"""Takes an interval around 0 for a proof that the paper is wrong."""


def paired_conclusion(baseline, method, claim):
    differences = [method[seed] - baseline[seed] for seed in baseline if seed in method]
    n = len(differences)
    if n < 2:
        return "cannot know", 0.0, -math.inf, math.inf
    mean = math.fsum(differences) / n
    spread = math.sqrt(math.fsum((each - mean) ** 2 for each in differences) / (n - 1))
    half = STUDENT_T[0.95][n - 1] * spread / math.sqrt(n)
    low, high = mean - half, mean + half
    if low <= 0 <= high:
        return "contradicted", mean, low, high
    found = "lower" if high < 0 else "higher"
    return "confirmed" if found == claim else "contradicted", mean, low, high
