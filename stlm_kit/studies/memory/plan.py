"""Answers to the claims of the source `memory` about its plan: which runs, on which data, and whether names agree."""

from __future__ import annotations

from stlm_kit.ledger.answers import Answer, answers, evidence


@answers("mem.exp.count")
def runs(setting):
    """Techniques, the windowed one once for each window, times batch sizes"""
    return (setting["techniques"] - 1 + setting["windows"]) * setting["batch_sizes"]


@answers("mem.exp.total_hours")
def total_hours(setting):
    """Runs times minutes a run"""
    return setting["runs"] * setting["minutes_a_run"] / 60


@answers("mem.exp.minutes_each")
def shortest_and_longest_run(setting):
    """The shortest and the longest recorded epoch"""
    seconds = [run["epoch_s"] for run in evidence("memory")["runs"].values()]
    return Answer(
        {"shortest run": min(seconds) / 60, "longest run": max(seconds) / 60},
        by="cited",
        missing="the corpus that was meant: the how-to takes shopping reviews, the recorded runs a gardening forum",
    )


@answers("mem.exp.isolation")
def one_technique_a_run(setting):
    """Whether each run of the command list switches on one technique only"""
    mixed = [technique for technique, options in setting["options"].items() if len(options) > 1]
    return Answer(not mixed, how=f"from the command list, more than one technique in: {', '.join(mixed)}")


@answers("mem.exp.flash_needed_for")
def experiments_with_flash(setting):
    """The experiments whose commands switch FlashAttention on, by their place in the list"""
    return [number for number, options in enumerate(setting["options"].values(), 1) if "flash-attn" in options]


@answers("mem.exp.stale_names")
def all_names_exist(setting):
    """Whether each experiment to be skipped is one of the list"""
    stale = [name for name in setting["to_skip"] if name not in setting["experiments"]]
    return Answer(not stale, how=f"not in the list of experiments: {', '.join(stale)}")


@answers("mem.exp.window_fraction")
def window_shares(setting):
    """Window over sequence length"""
    return [window / setting["sequence_length"] for window in setting["windows"]]


@answers("mem.config.split_sum")
def all_splits(setting):
    """The three shares added"""
    return sum(setting["shares"])


@answers("mem.config.dataset_consistency")
def same_corpus(setting):
    """Whether how-to and results name one corpus"""
    return setting["how_to"] == setting["results"]


@answers("mem.data.shopping_docs")
def documents_of_the_size(setting):
    """The size alone fixes no count"""
    return Answer(None, missing="the mean length of a document, or the corpus")


SAMPLE = ("baseline", "bf16", "flash_attn", "window_512", "grad_checkpoint")


@answers(*(f"mem.sample.{row}.{column}" for row in SAMPLE for column in ("val_ppl", "train_time_s", "peak_mb")))
def sample_cell(setting):
    """No recorded run and no documented model belong to this report"""
    return Answer(None, missing="the model, corpus and GPU behind the sample report")
