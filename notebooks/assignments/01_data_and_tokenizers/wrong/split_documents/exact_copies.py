"""Keeps equal documents together and knows no other copies: a text with one word more is a stranger."""


def split_documents(documents, shares, seed):
    families = {}
    for number, document in enumerate(documents):
        families.setdefault(" ".join(document.split()), []).append(number)
    order = list(families.values())
    random.Random(seed).shuffle(order)
    parts, missing = [0] * len(documents), [share * len(documents) for share in shares]
    for family in order:
        part = missing.index(max(missing))
        missing[part] -= len(family)
        for number in family:
            parts[number] = part
    return parts
