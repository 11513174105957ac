"""Right everywhere, by the kit's own patterns: only the rule takes its marks."""

from stlm_kit.layer_sharing import numbered, owners


def shared_stack(pattern, n_layers, matrices):
    uses = owners({"twice": "pairs"}.get(pattern, pattern), n_layers).feed_forward
    order = list(numbered(uses))
    return order, len(set(order)) * matrices, 2 * matrices * len(order)
