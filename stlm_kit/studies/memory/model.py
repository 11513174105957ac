"""Answers to the claims of the source `memory` about its model: parameters, and the bytes that a step saves."""

from __future__ import annotations

from math import log2

from stlm_kit.ledger.answers import Answer, answers, evidence
from stlm_kit.model.counting import MIB, STATE_BYTES, counted
from stlm_kit.presets import preset

# Parameters


@answers("mem.params.total")
def parameters(setting):
    """The preset's parameters, counted by storage"""
    return counted(setting["preset"])["total"]


@answers("mem.params.block")
def block_parameters(setting):
    """What one more layer adds to the preset's count"""
    n_layers = preset(setting["preset"]).n_layers
    return counted(setting["preset"], n_layers=n_layers + 1)["total"] - counted(setting["preset"])["total"]


@answers("mem.block.share")
def block_share(setting):
    """Parameters of all blocks over the preset's count: n_layers times what one layer adds"""
    return 100 * preset(setting["preset"]).n_layers * block_parameters(setting) / counted(setting["preset"])["total"]


@answers("mem.depth.param_constant")
def same_count_at_every_depth(setting):
    """The preset counted at each depth"""
    counts = {n_layers: counted(setting["preset"], n_layers=n_layers)["total"] for n_layers in setting["n_layers"]}
    shown = ", ".join(f"{count:,} at {n_layers} layers" for n_layers, count in counts.items())
    return Answer(len(set(counts.values())) == 1, how=f"the preset counted at each depth: {shown}")


@answers("mem.embed.count")
def embedding_entries(setting):
    """Vocabulary times width, counted in the preset's embedding"""
    return counted(setting["preset"])["embedding"]


@answers("mem.embed.share_pct")
def embedding_share(setting):
    """The embedding table over all parameters of the preset"""
    return 100 * counted(setting["preset"])["embedding"] / counted(setting["preset"])["total"]


@answers("mem.embed.tied")
def tied_head_gives_the_count(setting):
    """Whether the printed total comes out with a tied head, with or without a bias"""
    tied = [counted(setting["preset"], tied_head=True, head_bias=bias)["total"] for bias in (False, True)]
    shown = " or ".join(f"{count:,}" for count in tied)
    return Answer(
        setting["printed_parameters"] in tied,
        how=f"a tied head gives {shown}, a separate one with a bias {counted(setting['preset'])['total']:,}",
    )


@answers("mem.embed.bytes_fp32", "mem.embed.bytes_bf16")
def embedding_mib(setting):
    """Entries of the embedding table times bytes each, in MiB"""
    return counted(setting["preset"])["embedding"] * setting["bytes"] / MIB


@answers("mem.ffn.per_layer")
def feed_forward_widths(setting):
    """The widths that the preset's feed-forward layer passes through"""
    config = preset(setting["preset"])
    return [config.d_model, config.d_ff, config.d_model]


@answers("mem.sample.params")
def counts_of_the_documented_model(setting):
    """The documented sizes counted with either vocabulary, tied as the text says or untied with a bias"""
    return {
        f"{vocab_size:,} tokens, {label}": counted(setting["preset"], vocab_size=vocab_size, **head)["total"]
        for vocab_size in setting["vocab_sizes"]
        for label, head in {"tied": {}, "untied with a bias": {"tied_head": False, "head_bias": True}}.items()
    }


# The bytes that a step saves: everything that backward needs


def positions(setting) -> int:
    """Token positions in a batch: rows of 256 tokens leave 255 inputs."""
    return setting["batch_size"] * preset(setting["preset"]).context_length


def logits_mib(setting, width: int = 4) -> float:
    """MiB of one copy of the logits. width: bytes a number."""
    return positions(setting) * preset(setting["preset"]).vocab_size * width / MIB


def logit_copies() -> float:
    """Copies of the logits at the peak: the logits, the zeros that backward scatters into, rows of real targets."""
    return 2 + evidence("memory")["facts"]["valid_token_share"]


def score_mib(setting, width: int = 4) -> float:
    """MiB of a layer's attention matrices in eager attention: softmax, dropout's mask (a byte), dropout's output."""
    config = preset(setting["preset"])
    return setting["batch_size"] * config.n_heads * config.context_length**2 * (2 * width + 1) / MIB


def feed_forward_mib(setting, width: int = 4) -> float:
    """MiB of a layer's feed-forward activations: ReLU's output, dropout's mask (a byte), dropout's output."""
    return positions(setting) * preset(setting["preset"]).d_ff * (2 * width + 1) / MIB


def kept_by_blocks(setting) -> float:
    """MiB that the blocks save in FP32, without their inputs, because checkpointing saves these, too."""
    config = preset(setting["preset"])
    # Both norms' outputs, queries, keys, values, attention's output and the stream between; two masks; the norms'
    # statistics.
    stream = positions(setting) * (config.d_model * (7 * 4 + 2 * 1) + 4 * 4) / MIB
    return config.n_layers * (score_mib(setting) + feed_forward_mib(setting) + stream)


@answers("mem.gradcp.forward_share")
def block_activations(setting):
    """Bytes kept inside the blocks, counted tensor by tensor: attention matrices, feed-forward, and the rest"""
    return kept_by_blocks(setting)


@answers("mem.attn.elements")
def attention_matrix(setting):
    """Sequence length squared"""
    return setting["sequence_length"] ** 2


@answers("mem.attn.quadratic")
def growth_with_length(setting):
    """The exponent between one length and twice that: log2 of the ratio"""
    d_model, n_heads, length = setting["d_model"], setting["n_heads"], setting["sequence_length"]

    def exponent(cost):
        return log2(cost(2 * length) / cost(length))

    return {
        "operations": exponent(lambda n: 4 * n**2 * d_model),
        "memory, scores stored": exponent(lambda n: n_heads * n**2),
        "memory with FlashAttention": exponent(lambda n: 4 * n * d_model + n * n_heads),
    }


@answers("mem.embed.memory_bottleneck")
def embeddings_outweigh_logits(setting):
    """The embedding table with gradient and moments, beside the copies of the logits, as shares of the peak"""
    table = counted(setting["preset"])["embedding"] * STATE_BYTES / MIB
    logits = logit_copies() * logits_mib(setting)
    shares = [100 * part / setting["peak_mib"] for part in (table, logits)]
    return Answer(
        table > logits,
        how="of the peak, the table with gradient and moments takes {:.1f} %, the logits {:.0f} %".format(*shares),
    )


@answers("mem.act.small_vs_params")
def activations_small_beside_parameters(setting):
    """What checkpointing removes from the peak, beside weights, gradients and moments"""
    activations = setting["peak_mib"] - setting["checkpointed_peak_mib"]
    state = counted(setting["preset"])["total"] * STATE_BYTES / MIB
    return Answer(
        activations < state,
        how=f"checkpointing removes {activations:,.0f} MiB; weights, gradients and moments take {state:,.0f} MiB",
    )


@answers("mem.ffn.activation_dominant")
def feed_forward_dominates(setting):
    """The feed-forward layers' activations beside the attention matrices and beside the logits"""
    n_layers = preset(setting["preset"]).n_layers
    ffn, scores = feed_forward_mib(setting), score_mib(setting)
    ffn_bf16, logits = n_layers * feed_forward_mib(setting, width=2), logits_mib(setting, width=2)
    how = (
        f"FP32, a layer: feed-forward {ffn:.0f} MiB, attention matrices {scores:.0f}; "
        f"BF16 with FlashAttention: feed-forward {ffn_bf16:.0f} MiB, one copy of the logits {logits:,.0f}"
    )
    return Answer({"in FP32, beside attention": ffn > scores, "with FlashAttention": ffn_bf16 > logits}, how=how)


@answers("mem.window.long_seq")
def length_at_which_a_window_pays(setting):
    """The length from which a window takes more operations out of a training step than the text calls noise"""
    config = preset(setting["preset"])
    short, long = (setting["searched_lengths"][end] for end in (0, -1))
    length = next(
        n for n in range(short, long + 1) if operations_saved(config, n, setting["window"]) > setting["noise_pct"]
    )
    shown = ", ".join(
        f"{operations_saved(config, n, setting['window']):.0f} % at {n:,}" for n in setting["searched_lengths"]
    )
    return Answer(length, how=f"by count of a step's matrix products a window saves {shown}", by="predicted")


def operations_saved(config, length: int, window: int) -> float:
    """The share of a step's matrix products that a window saves, in %, if only unmasked scores are computed."""
    seen = (length + 1) / 2  # keys that a position attends to, on average: itself and all before it
    in_window = window + 1 - window * (window + 1) / (2 * length)  # the first positions have fewer before them
    # operations for each key in the forward pass; the backward pass needs twice as many
    attention = 4 * config.d_model * config.n_layers
    rest = 2 * (config.n_layers * (4 * config.d_model**2 + 2 * config.d_model * config.d_ff))
    rest += 2 * config.d_model * config.vocab_size
    return 100 * attention * (seen - in_window) / (attention * seen + rest)
