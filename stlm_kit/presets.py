"""The kit's presets: configurations with a name, a source, and a note on what the source left open.

A preset says what is computed. A recipe says how a step is computed (training/recipe.py). Nothing here imports torch,
so `stlm --help` is quick.
"""

from __future__ import annotations

from pydantic import BaseModel

from stlm_kit.config import DecoderConfig, ModelConfig
from stlm_kit.errors import UsageError, near


class Preset(BaseModel, frozen=True, extra="forbid"):
    """A configuration with a name: its source, and what the source left open."""

    name: str
    config: ModelConfig
    source: str  # one sentence that cites the document
    tokenizer: str  # the default tokenizer
    tokenizer_size: int | None = None  # its tokens, where the vocabulary has more rows: the rest is padding
    published: bool  # a published vocab_size is never changed to fit a tokenizer; a laptop preset's is
    note: str = ""  # what the source left open, and what the kit chose


# The decoder of Vaswani et al. 2017, in its pre-norm form; GPT-2 (Radford et al. 2019); Llama (Touvron et al. 2023).
_VASWANI = {"norm": "layernorm", "positions": "sinusoidal", "feed_forward": "relu", "bias": True, "dropout": 0.1}
_VASWANI |= {"embedding_scale": True}
_GPT2 = {"norm": "layernorm", "positions": "learned", "feed_forward": "gelu_tanh", "bias": True, "tied_head": True}
_LLAMA = {"norm": "rmsnorm", "positions": "rotary", "feed_forward": "swiglu", "bias": False, "tied_head": True}
_QWEN3 = {**_LLAMA, "qk_norm": True, "rope_base": 1e6, "norm_epsilon": 1e-6}  # Yang et al. 2025, and its config.json

_POSTER = "Memory-Efficient Transformer Optimizations for Low-Perplexity Language Modeling (poster, DistilQwen3)"
_STLM = "Super Tiny Language Models (Hillier, Guertler et al. 2024, arXiv 2405.14159)"
_MEMORY = "Memory-efficient transformer training techniques (results and code published on GitHub)"

_ALL = [
    Preset(
        name="memory-study",
        config=DecoderConfig(
            vocab_size=50257, context_length=255, n_layers=4, d_model=256, n_heads=8, d_ff=1024,
            tied_head=False, head_bias=True, **_VASWANI,
        ),
        source=f"{_MEMORY}, section 'Experimental Results': the model that produced its tables.",
        tokenizer="gpt2",
        published=True,
        note="Rows of 256 tokens leave 255 input positions. The text calls the head tied; its own count, 28,941,393, "
        "needs a separate head with a bias.",
    ),
    Preset(
        name="memory-study-text",
        config=DecoderConfig(
            vocab_size=10000, context_length=512, n_layers=6, d_model=512, n_heads=8, d_ff=2048,
            tied_head=True, **_VASWANI,
        ),
        source=f"{_MEMORY}, sections 'Overview' and 'Configuration': what its text prints, not what its tables used.",
        tokenizer="bpe-10000",
        published=True,
        note="Whether the head has a bias is not printed, and no reading gives the sample report's 42,567,680: "
        "tied as the text says gives 24,035,328, untied with a bias 29,165,328. The kit takes the text at its word. "
        "The text states a maximum sequence length of 512 tokens; here that is 512 input positions.",
    ),
    Preset(
        name="stlm-50m",
        config=DecoderConfig(
            vocab_size=50257, context_length=512, n_layers=10, d_model=512, n_heads=16, n_kv_heads=4, d_ff=1536,
            dropout=0.1, **_LLAMA,
        ),
        source=f"{_STLM}, Table 1, with the 4 key-value heads and the tied head of its public code.",
        tokenizer="gpt2",
        published=True,
        note="Table 1 gives neither the key-value heads nor the tying: with 16 key-value heads it is 59,821,056, "
        "and untied 85,552,640 (16) or 81,620,480 (4). The code's 'group size 4' gives 4 query heads to each "
        "key-value head; as 16 / 4 is also 4, both readings agree here. Its code raises dropout from 0 to 0.1 over "
        "10,000 iterations; the schedule belongs to training.",
    ),
    Preset(
        name="stlm-50m-code",
        config=DecoderConfig(
            vocab_size=50257, context_length=512, n_layers=8, d_model=512, n_heads=16, n_kv_heads=4, d_ff=1320,
            dropout=0.1, **_LLAMA,
        ),
        source=f"The public code of {_STLM}, its baseline configuration in the week of the paper.",
        tokenizer="gpt2",
        published=True,
        note="8 layers and a feed-forward width of 1,320, where Table 1 of the paper prints 10 and 1,536.",
    ),
    Preset(
        name="layerdrop-12",
        config=DecoderConfig(
            vocab_size=10000, context_length=512, n_layers=12, d_model=512, n_heads=8, d_ff=2048,
            tied_head=True, **_VASWANI,
        ),
        source="A proposal on dynamic LayerDrop with distillation, section 4.1: 12 layers, 512, 8 heads, 2,048, "
        "a decoder as in Vaswani et al. 2017.",
        tokenizer="bpe-10000",
        published=True,
        note="Vocabulary, length, dropout, tying and the place of the norms are not stated. The kit takes a BPE of "
        "10,000 (so that the layers, not the embedding, hold most parameters), 512 positions, dropout 0.1 and a tied "
        "head as in Vaswani et al., and norms before each sub-layer, since dropping whole layers wants a clean "
        "residual path.",
    ),
    Preset(
        name="distilqwen3",
        config=DecoderConfig(
            vocab_size=151936, context_length=512, n_layers=36, d_model=4096, n_heads=32, n_kv_heads=8, head_dim=128,
            d_ff=2048, sharing="all", layer_index=True, **_QWEN3,
        ),
        source=f"{_POSTER}, section 'Methods': one layer reused N times with an index, GQA, RoPE, a SwiGLU bottleneck.",
        tokenizer="qwen3",
        tokenizer_size=151669,  # 151,643 of BPE and 26 added ones
        published=True,
        note="No size is printed. Depth, heads and vocabulary are the teacher's (Qwen3-8B), and so is the width: by "
        "Figure 4 the student has more parameters than Qwen3-0.6B, and with one layer and a tied head only the largest "
        "of the family's widths (1,024, 2,048, 2,560, 4,096) gives more. The bottleneck is read as d_ff = 2,048, half "
        "the width, since it is to 'reduce intermediate size'; factor_rank is the other reading. The last 267 rows of "
        "the vocabulary belong to no token of Qwen3's tokenizer: padding, as in the teacher, and never a target.",
    ),
    Preset(
        name="gpt2-small",
        config=DecoderConfig(
            vocab_size=50257, context_length=1024, n_layers=12, d_model=768, n_heads=12, d_ff=3072,
            dropout=0.1, **_GPT2,
        ),
        source="GPT-2 small (Radford et al. 2019, Language Models are Unsupervised Multitask Learners), as released.",
        tokenizer="gpt2",
        published=True,
        note="The paper's own 117M is a miscount; the released weights hold 124,439,808.",
    ),
    Preset(
        name="laptop-llama",
        config=DecoderConfig(
            vocab_size=2048, context_length=128, n_layers=4, d_model=128, n_heads=8, n_kv_heads=2, d_ff=384, **_LLAMA
        ),
        source="The kit's own: stlm-50m in small, for a minute on a laptop.",
        tokenizer="bpe-2048",
        published=False,
        note="Same proportions as stlm-50m: 4 query heads a key-value head, a feed-forward of 3 d_model.",
    ),
    Preset(
        name="laptop-distilqwen3",
        config=DecoderConfig(
            vocab_size=2048, context_length=128, n_layers=8, d_model=128, n_heads=8, n_kv_heads=2, d_ff=64,
            sharing="all", layer_index=True, **_QWEN3,
        ),
        source="The kit's own: distilqwen3 in small, for a minute on a laptop.",
        tokenizer="bpe-2048",
        published=False,
        note="Same proportions: 4 query heads to a key-value head, a bottleneck of half the width. Eight uses, not 36.",
    ),
    Preset(
        name="laptop-gpt2",
        config=DecoderConfig(
            vocab_size=257, context_length=128, n_layers=4, d_model=128, n_heads=4, d_ff=512, **_GPT2
        ),
        source="The kit's own: GPT-2 in small, the character model of the first chapters.",
        tokenizer="bytes",
        published=False,
        note="No dropout: a minute of training does not over-fit.",
    ),
    Preset(
        name="laptop-memory",
        config=DecoderConfig(
            vocab_size=8192, context_length=127, n_layers=4, d_model=64, n_heads=4, d_ff=256,
            tied_head=False, head_bias=True, **{**_VASWANI, "dropout": 0.0},
        ),
        source="The kit's own: memory-study in small, for a step in a second on a laptop.",
        tokenizer="bpe-8192",
        published=False,
        note="A vocabulary large enough that the logits outweigh the layers, as in memory-study. No dropout: on a CPU "
        "torch's fused attention would fall back to the whole matrix.",
    ),
]  # fmt: skip
PRESETS: dict[str, Preset] = {entry.name: entry for entry in _ALL}


def preset_entry(name: str) -> Preset:
    """The preset called `name`, with its source and notes. UsageError with similar names where there is none."""
    if name not in PRESETS:
        hint = near(name, PRESETS) or f" There are {', '.join(PRESETS)}."
        raise UsageError(f"There is no preset named {name!r}.{hint}")
    return PRESETS[name]


def preset(name: str, **overrides) -> ModelConfig:
    """The configuration called `name`, with any settings replaced: `preset("stlm-50m", n_kv_heads=16)`.

    Raises UsageError for an unknown name (with similar names) and for settings that conflict.
    """
    config = preset_entry(name).config
    return type(config)(**{**config.model_dump(exclude_unset=True), **overrides})
