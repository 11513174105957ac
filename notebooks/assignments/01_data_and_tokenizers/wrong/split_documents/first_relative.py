"""Puts a document with the first one it shares a run with, and never joins two families. Passes the public check."""


def split_documents(documents, shares, seed):
    first, family = {}, []
    for number, document in enumerate(documents):
        words = document.split()
        runs = [tuple(words[start : start + 8]) for start in range(max(1, len(words) - 7))]
        known = [first[run] for run in runs if run in first]
        family.append(family[known[0]] if known else number)
        for run in runs:
            first.setdefault(run, number)
    order = sorted(set(family))
    random.Random(seed).shuffle(order)
    part_of, missing = {}, [share * len(documents) for share in shares]
    for label in order:
        part_of[label] = missing.index(max(missing))
        missing[part_of[label]] -= family.count(label)
    return [part_of[label] for label in family]
