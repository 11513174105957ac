"""Lets networkx find the families. Right, so only the rule objects."""

import networkx


def split_documents(documents, shares, seed):
    graph = networkx.Graph()
    for number, document in enumerate(documents):
        words = document.split()
        graph.add_edges_from((number, tuple(words[start : start + 8])) for start in range(max(1, len(words) - 7)))
    families = [[each for each in family if isinstance(each, int)] for family in networkx.connected_components(graph)]
    random.Random(seed).shuffle(families)
    parts, missing = [0] * len(documents), [share * len(documents) for share in shares]
    for family in families:
        part = missing.index(max(missing))
        missing[part] -= len(family)
        for number in family:
            parts[number] = part
    return parts
