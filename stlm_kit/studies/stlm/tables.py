"""Answers to the claims of the source `stlm` about text, training and benchmarks, and to what it cites."""

from __future__ import annotations

from math import log2, sqrt

from stlm_kit.ledger.answers import Answer, answers, evidence
from stlm_kit.ledger.claims import find_claim
from stlm_kit.model.counting import counted

# Text and training


@answers("stlm.tokens.seen")
def tokens_seen(setting):
    """Rows in a batch x accumulation steps x context x iterations"""
    return setting["batch_size"] * setting["accumulation_steps"] * setting["context_length"] * setting["steps"]


@answers("stlm.tokens.words3B")
def words_seen(setting):
    """Tokens of Table 1 times words in a GPT-2 token"""
    n_tokens = tokens_seen(setting)
    once = n_tokens / setting["accumulation_steps"] * setting["words_per_token"]
    return Answer(
        n_tokens * setting["words_per_token"],
        how=f"{n_tokens:,} tokens of Table 1 at {setting['words_per_token']} words; {once:,.0f} without accumulation",
    )


def passes(setting=None):
    """How often training reads each word of the corpus, {reading: passes}. The default setting is the claim's.

    The first two readings keep the 3 billion words of the paper's sentence. The last two leave out the accumulation
    steps, which gives about 10 passes, and 0.2 to 0.3 billion words instead of 3.
    """
    setting = setting or find_claim("stlm.tokens.ten_times").setting
    n_tokens, per_token = tokens_seen(setting), setting["words_per_token"]
    words = {
        "its own 3 billion words": setting["words_seen"],
        "the tokens of its Table 1": n_tokens * per_token,
        "Table 1 without accumulation": n_tokens / setting["accumulation_steps"] * per_token,
        "the same, a token taken for a word": n_tokens / setting["accumulation_steps"],
    }
    return {reading: count / setting["words_unique"] for reading, count in words.items()}


@answers("stlm.tokens.ten_times")
def passes_over_the_corpus(setting):
    """Words seen over words in the corpus"""
    own, of_table_1 = list(passes(setting).items())[:2]
    return {reading: round(times, 1) for reading, times in (own, of_table_1)}


@answers("stlm.dropout.table_vs_upstream")
def dropout_in_the_public_code(setting):
    """The first and the last rate of dropout in versions of the public code's baseline configuration"""
    rates = {}
    for version, schedule in evidence("stlm")["dropout_schedules"].items():
        start, end = schedule["start"], schedule["end"]
        rates[version] = start if start == end else [start, end]
    return Answer(rates, by="cited")


@answers("stlm.config.warmup_fraction")
def warmup_share(setting):
    """Warm-up over all iterations"""
    return 100 * setting["warmup_steps"] / setting["steps"]


@answers("stlm.data.size_mb")
def corpus_size(setting):
    """What the card of the dataset in the paper's footnote gives for its Simple English snapshot of March 2022"""
    card = evidence("stlm")["wikipedia_card"]
    text, download = card["text_bytes"] / setting["bytes_per_mb"], card["download_bytes"] / setting["bytes_per_mb"]
    return Answer({"text": text, "text and its compressed download": text + download}, by="cited")


@answers("stlm.data.bytes_per_word")
def bytes_per_word(setting):
    """Size over words, with the size as printed and with the text's on the dataset card"""
    sizes = {
        "the paper's 370 MB": setting["size_mb"] * 1e6,
        "the text of the dataset card": evidence("stlm")["wikipedia_card"]["text_bytes"],
    }
    return Answer(
        {reading: round(size / setting["words"], 2) for reading, size in sizes.items()},
        missing="what the 370 MB count: plain text, markup, or the compressed download too",
    )


@answers("stlm.kaplan.words")
def words_against_overfitting(setting):
    """Kaplan et al., equation 4.4: 5,000 N^0.74 tokens, N without the embedding"""
    words = {}
    for n_kv_heads in setting["n_kv_heads"]:
        table = counted(setting["preset"], n_kv_heads=n_kv_heads)
        n_tokens = 5e3 * (table["total"] - table["embedding"]) ** 0.74
        words[f"{n_kv_heads} key-value heads"] = round(n_tokens * setting["words_per_token"])
    return words


# Benchmarks


@answers("stlm.ppl.formula_sign")
def perplexity_of_a_guess(setting):
    """2 to the mean log2 probability, as printed and with the sign turned"""
    mean = log2(setting["probability"])
    return Answer(
        {"as printed, without a minus": 2**mean, "with a minus": 2**-mean},
        missing="whether the minus stands in the paper's typeset formula: the text read here may have lost it",
    )


@answers(
    "stlm.t2.chance.arc_easy", "stlm.t2.chance.winogrande", "stlm.t2.chance.hellaswag", "stlm.t2.chance.mmlu"
)  # fmt: skip
def chance(setting):
    """1 over the options, averaged over the items"""
    items = setting["items_by_options"]
    return 100 * sum(count / options for options, count in items.items()) / sum(items.values())


@answers("stlm.t2.around_chance")
def near_chance(setting):
    """How many standard errors each accuracy lies from chance"""
    z = {}
    for benchmark, row in setting["benchmarks"].items():
        guess = row["chance_pct"] / 100
        z[benchmark] = (row["accuracy_pct"] / 100 - guess) / sqrt(guess * (1 - guess) / row["items"])
    shown = ", ".join(f"{benchmark} {value:+.1f}" for benchmark, value in z.items())
    widest = max(abs(row["accuracy_pct"] - row["chance_pct"]) for row in setting["benchmarks"].values())
    return Answer(
        {
            "as a guesser would score": all(abs(value) < setting["largest_z"] for value in z.values()),
            f"within {setting['near_points']} points of chance": widest <= setting["near_points"],
        },
        how=f"standard errors from chance: {shown}; at most {widest:g} points",
    )


@answers("stlm.goal.bench")
def reaches_its_rivals(setting):
    """The baseline's MMLU beside that of the models it means to match, both from the paper's Table 2"""
    own, rival = setting["baseline_mmlu_pct"], setting["rival_mmlu_pct"]
    return Answer(
        own >= rival,
        how=f"its Table 2: {own} % of MMLU against {rival} % of a 3B to 4B model; no result on GSM8K or the arena",
        by="cited",
        missing="results of the models that the aim is about; the paper reports its baseline alone",
    )


# The papers it cites


@answers("stlm.intro.small_lm_gpuh")
def thousands_of_gpu_hours(setting):
    """TinyLlama's training tokens over its own throughput"""
    hours = setting["tokens"] / setting["tokens_per_gpu_second"] / 3600
    return Answer(
        hours >= 2000, how=f"3 trillion tokens at TinyLlama's 24,000 a second and A100: {hours:,.0f} A100 hours"
    )


@answers("stlm.distilbert")
def distilbert(setting):
    """GLUE kept, speed gained and parameters saved, from the tables of its paper"""
    teacher, student = setting["bert_base"], setting["distilbert"]
    return [
        100 * student["glue"] / teacher["glue"],
        100 * (teacher["seconds"] / student["seconds"] - 1),
        100 * (1 - student["parameters"] / teacher["parameters"]),
    ]


@answers("stlm.t2.tinyllama.mmlu")
def tinyllama_mmlu(setting):
    """TinyLlama's MMLU where others printed it"""
    return Answer(evidence("stlm")["tinyllama_mmlu"], by="cited", missing="which checkpoint, and how it was prompted")
