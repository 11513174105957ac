"""Ready-made: builds the kit's decoder and counts it. Every number is right; only the rule refuses it."""

import stlm_kit as kit


def count_parameters(vocab_size: int, d_model: int, n_layers: int, n_heads: int, n_kv_heads: int, d_ff: int) -> int:
    sizes = {"vocab_size": vocab_size, "d_model": d_model, "n_layers": n_layers, "d_ff": d_ff}
    with torch.device("meta"):
        decoder = kit.Decoder(kit.preset("stlm-50m", **sizes, n_heads=n_heads, n_kv_heads=n_kv_heads))
    return sum(kit.parameter_table(decoder).values())
