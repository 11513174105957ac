"""Answers to the claims of the source `stlm` about its models: how many parameters, and in which parts."""

from __future__ import annotations

from math import ceil

from stlm_kit.ledger.answers import Answer, answers, evidence
from stlm_kit.model.counting import counted
from stlm_kit.presets import preset


def vocabulary_share(table: dict[str, int]) -> float:
    """The share of embedding and head in all parameters, in %."""
    return 100 * (table["embedding"] + table["head"]) / table["total"]


# The baseline


@answers("stlm.config.head_dim")
def head_width(setting):
    """Width over heads, in the preset"""
    return preset(setting["preset"]).head_dim


@answers("stlm.params.50M")
def baseline_parameters(setting):
    """Table 1 counted under every reading of what it leaves out"""
    readings = {
        reading: counted(setting["preset"], **change)["total"] for reading, change in setting["readings"].items()
    }
    return Answer(readings, missing="key-value heads and tying")


@answers("stlm.params.unit_mb")
def baseline_megabytes(setting):
    """Parameters times bytes a number, at each precision"""
    n_parameters = counted(setting["preset"])["total"]
    return {precision: n_parameters * n_bytes / 1e6 for precision, n_bytes in setting["bytes_per_number"].items()}


@answers("stlm.size.gap")
def times_smaller(setting):
    """Each listed size over the baseline's"""
    return [size / setting["baseline"] for size in setting["compared_with"].values()]


@answers("stlm.scale.10M_embed")
def small_model(setting):
    """A small Llama with GPT-2's vocabulary, counted"""
    shape = setting["overrides"]
    table = counted(setting["preset"], **shape)
    widest = setting["budget"] // preset(setting["preset"]).vocab_size
    return Answer(
        table["total"],
        how=f"{shape['n_layers']} layers of width {shape['d_model']}: {table['embedding']:,} of the parameters are the "
        f"embedding ({vocabulary_share(table):.0f} %); at a width of {widest} it alone fills the budget",
    )


# Embedding and head


@answers("stlm.embed.table_formula")
def embedding_table(setting):
    """The embedding matrix, counted"""
    return counted(setting["preset"])["embedding"]


@answers("stlm.embed.share_tied", "stlm.embed.share_untied")
def share_by_architecture(setting):
    """Embedding and head over all parameters, for each architecture that could be meant"""
    tied = setting["tied_head"]
    shares = {
        name: round(vocabulary_share(counted(shape["preset"], tied_head=tied, **shape.get("overrides", {}))), 2)
        for name, shape in setting["architectures"].items()
    }
    return Answer(shares, missing="the layers, widths and key-value heads of the model meant")


@answers("stlm.embed.share_pair")
def untied_share(setting):
    """A table of E in a whole of 1 is a share t when tied, 2t / (1 + t) when untied"""
    tied = setting["tied_share_pct"] / 100
    return 100 * 2 * tied / (1 + tied)


@answers("stlm.embed.gpt2_sized")
def shares_of_gpt2(setting):
    """GPT-2 at its four sizes, tied and untied, beside the two shares"""
    pairs = {
        name: [vocabulary_share(counted("gpt2-small", tied_head=tied, **shape)) for tied in (True, False)]
        for name, shape in setting["sizes"].items()
    }
    wanted = (setting["tied_share_pct"], setting["untied_share_pct"])
    fits = any(abs(tied - wanted[0]) < 0.005 and abs(untied - wanted[1]) < 0.005 for tied, untied in pairs.values())
    shown = ", ".join(f"{name} {tied:.1f} and {untied:.1f} %" for name, (tied, untied) in pairs.items())
    return Answer(fits, how=f"GPT-2 counted tied and untied: {shown}")


@answers("stlm.tie.saves")
def saved_by_tying(setting):
    """The untied count less the tied one"""
    untied = counted(setting["preset"], tied_head=False)["total"]
    saved = untied - counted(setting["preset"], tied_head=True)["total"]
    return Answer(saved, how=f"the untied count less the tied one: {100 * saved / untied:.1f} % of the untied model")


# Feed-forward layers


@answers("stlm.swiglu.three_mats", "stlm.ffn.two_mats")
def feed_forward_matrices(setting):
    """The matrices of one feed-forward, counted"""
    import torch

    from stlm_kit.model import Decoder

    with torch.device("meta"):
        block = Decoder(preset(setting["preset"], **{"n_layers": 1, **setting["overrides"]})).blocks[0]
    sizes = [parameter.shape for parameter in block.feed_forward.parameters()]
    matrices = [size for size in sizes if len(size) == 2]
    total = sum(size.numel() for size in sizes)
    return Answer(
        len(matrices), how=f"counted: {len(sizes) - len(matrices)} biases beside them, {total:,} parameters a layer"
    )


@answers("stlm.ffn.majority")
def feed_forwards_hold_most(setting):
    """Feed-forwards over all parameters and over those of the blocks, under every reading of Table 1"""
    tables = {reading: counted(setting["preset"], **change) for reading, change in setting["readings"].items()}
    shares = {reading: 100 * table["feed_forward"] / table["total"] for reading, table in tables.items()}
    of_blocks = [100 * t["feed_forward"] / (t["feed_forward"] + t["attention"] + t["norms"]) for t in tables.values()]
    shown = ", ".join(f"{share:.1f} % ({reading})" for reading, share in shares.items())
    return Answer(
        {"of the whole model": min(shares.values()) > 50, "of its transformer blocks": min(of_blocks) > 50},
        how=f"feed-forwards hold {shown} of the model, {min(of_blocks):.0f} to {max(of_blocks):.0f} % of its blocks",
    )


@answers("stlm.ffn.sharing_saves")
def saved_by_sharing(setting):
    """One feed-forward instead of one a layer"""
    n_layers, table = preset(setting["preset"]).n_layers, counted(setting["preset"])
    saved = table["feed_forward"] * (n_layers - 1) // n_layers
    return Answer(
        saved > 0,
        how=f"{n_layers - 1} of {n_layers} feed-forwards: {saved:,} parameters, "
        f"{100 * saved / table['total']:.1f} % of the model",
    )


@answers("stlm.lowrank.saves")
def factors_save(setting):
    """r (m + n) against m n, for the feed-forward's matrix"""
    config = preset(setting["preset"])
    m, n = config.d_model, config.d_ff
    break_even = m * n / (m + n)
    saving = [rank for rank in range(1, m) if rank * (m + n) < m * n]
    return Answer(
        saving == list(range(1, ceil(break_even))) and len(saving) > 0,
        how=f"r ({m} + {n}) is below {m} x {n} for each rank below {break_even:g}, and not from there on; "
        "multiplications a token are as many as parameters",
    )


@answers("stlm.quant.4x")
def times_fewer_bits(setting):
    """Bits a number before, over bits after"""
    return setting["bits_before"] / setting["bits_after"]


# The byte-level model


@answers("stlm.byte.embed_small")
def byte_table(setting):
    """Byte values times width"""
    n_parameters = setting["vocab_size"] * setting["d_byte"]
    share = 100 * n_parameters / counted(setting["preset"])["total"]
    return Answer(n_parameters, how=f"byte values times width: {share:.2f} % of the baseline")


@answers("stlm.byte.no_params_chunking")
def parameters_of_a_tokenizer(setting):
    """What training could change in a BPE of the kit: arrays with a gradient"""
    from stlm_kit.data.tokenizers import BPETokenizer, ByteTokenizer

    kept = vars(BPETokenizer("without merges", ByteTokenizer().to_json())).values()
    return sum(value.numel() for value in kept if getattr(value, "requires_grad", False))


def byte_modules() -> tuple[int, int]:
    """(encoder, decoder) parameters of the public code's byte-level model."""
    modules = evidence("stlm")["byte_level"]
    return modules["encoder_parameters"], modules["decoder_parameters"]


@answers("stlm.byte.pooling_10pct")
def byte_modules_over_table(setting):
    """Byte encoder and decoder of the public code over the embedding table they replace"""
    table = counted(setting["preset"])["embedding"]
    encoder, decoder = byte_modules()
    return Answer(
        100 * (encoder + decoder) / table,
        how=f"({encoder:,} + {decoder:,}) over {table:,}; the encoder alone is {100 * encoder / table:.2f} %",
        by="cited",
    )


@answers("stlm.byte.reduction")
def vocabulary_reduction(setting):
    """1 less byte encoder and decoder over one table (tied) or two (untied)"""
    table, modules = counted(setting["preset"])["embedding"], sum(byte_modules())
    return Answer([100 * (1 - modules / (copies * table)) for copies in (1, 2)], by="cited")


@answers("stlm.byte.reduction_whole_model")
def whole_model_reduction(setting):
    """1 less the byte-level model over the baseline, with blocks of its own or one block in every place"""
    found, models = {}, {}
    for blocks, change in (("ten blocks", {}), ("one block in ten places", {"n_layers": 1})):
        table = counted(setting["preset"], **change)  # one block in every place is stored once
        models[blocks] = table["total"] - table["embedding"] + sum(byte_modules())
        for kind, tied_head in (("tied", True), ("untied", False)):
            baseline = counted(setting["preset"], tied_head=tied_head)["total"]
            found[f"{blocks}, beside the {kind} baseline"] = round(100 * (1 - models[blocks] / baseline), 1)
    shown = " and ".join(f"{n_parameters:,} with {blocks}" for blocks, n_parameters in models.items())
    return Answer(found, how=f"the byte modules of the public code on the baseline's core: {shown}", by="cited")


@answers("stlm.byte.decoder_fewer")
def byte_decoder_over_head(setting):
    """The public code's byte decoder beside a head"""
    head, (_, decoder) = counted(setting["preset"], tied_head=False)["head"], byte_modules()
    share = decoder / head
    return Answer(share < 0.1, how=f"{decoder:,} of {head:,}: {100 * share:.1f} %, below a tenth", by="cited")
