"""Answers to the arithmetic claims of the source `poster`: sizes of the models compared, memory, what it leaves out."""

from __future__ import annotations

import torch
from torch import nn

from stlm_kit.ledger.answers import Answer, answers
from stlm_kit.model import Decoder, count_parameters
from stlm_kit.presets import preset


@answers("poster.config.missing")
def unstated(setting):
    """What a run needs, less what the text states."""
    absent = [name for name in setting["needed"] if name not in setting["stated"]]
    return Answer(None if absent else True, missing=", ".join(absent) or None)


# Sizes


def qwen3_parameters(vocab_size, d_model, n_layers, n_heads, n_kv_heads, head_dim, d_ff, tied_head) -> int:
    """Parameters of a Qwen3 decoder: no biases, its own head width, norms on a head's queries and keys."""
    attention = d_model * head_dim * (2 * n_heads + 2 * n_kv_heads) + 2 * head_dim
    layer = attention + 3 * d_model * d_ff + 2 * d_model
    return vocab_size * d_model * (1 if tied_head else 2) + n_layers * layer + d_model


def shared_parameters(d_model, vocab_size, kv_share, ff_multiple) -> int:
    """Parameters of the poster's student: tied embedding, one layer (SwiGLU, no biases, two RMSNorms), final norm."""
    attention = d_model * d_model * (2 + 2 * kv_share)
    layer = attention + 3 * d_model * ff_multiple * d_model + 2 * d_model
    return int(vocab_size * d_model + layer + d_model)


@answers("poster.size.qwen06", "poster.size.qwen8")
def qwen3_size(setting):
    """Its layers, norms and vocabulary, counted from its configuration."""
    return qwen3_parameters(**setting)


@answers("poster.size.gpt2")
def preset_size(setting):
    """The preset gpt2-small, counted by storage."""
    with torch.device("meta"):
        return count_parameters(Decoder(preset(setting["preset"])))


@answers("poster.size.midrange")
def lies_between(setting):
    """Whether one shared layer and a tied embedding come to a size between the two, at several widths."""
    smaller, larger = qwen3_parameters(**setting["smaller"]), qwen3_parameters(**setting["larger"])
    students = {width: shared_parameters(width, **setting["student"]) for width in setting["widths"]}
    enough = next(width for width in range(128, 2**14, 128) if shared_parameters(width, **setting["student"]) > smaller)
    listed = ", ".join(f"{size:,} at width {width:,}" for width, size in students.items())
    return Answer(
        {f"width {width:,}": smaller < size < larger for width, size in students.items()},
        how=f"one shared layer and a tied embedding: {listed}; above Qwen3-0.6B's {smaller:,} from width {enough:,} on",
        missing="the student's width and number of parameters",
    )


@answers("poster.size.compact")
def smaller_than(setting):
    """Whether the student stands before a model of its teacher's family in the poster's order by size."""
    place = setting["by_size"].index
    return Answer(
        {f"beside {model}": place(setting["student"]) < place(model) for model in setting["family"]},
        missing="beside which model it is compact, and its number of parameters",
    )


@answers("poster.sharing.params_constant")
def same_size_at_every_depth(setting):
    """One block in every place of a decoder, counted by storage at several depths."""
    counts = set()
    for turns in setting["turns"]:
        with torch.device("meta"):
            model = Decoder(preset(setting["preset"], n_layers=1))
        model.blocks = nn.ModuleList([model.blocks[0]] * turns)
        counts.add(count_parameters(model))
    return len(counts) == 1


@answers("poster.mlp.lowrank")
def intermediate_size_falls(setting):
    """Two readings of a low-rank SwiGLU: the rank in the place of d_ff, or each projection a product of two."""
    d_model, d_ff, rank = setting["d_model"], setting["d_ff"], setting["rank"]
    full, narrow, factorised = 3 * d_model * d_ff, 3 * d_model * rank, 3 * rank * (d_model + d_ff)
    inside = {"the rank replaces d_ff": rank, "each projection is factorised, d_ff stays": d_ff}
    return Answer(
        {reading: size < d_ff for reading, size in inside.items()},
        how=f"at rank {rank:,}, {full:,} parameters become {narrow:,} in a narrower layer, {factorised:,} factorised",
        missing="the rank, and where the bottleneck sits",
    )


# Memory and time


@answers("poster.mem.teacher_student_fit")
def teacher_and_student(setting):
    """The teacher's weights, held in four ways, and the states of the smallest student that Figure 4 allows, in GB."""
    teacher = qwen3_parameters(**setting["teacher"])
    student = qwen3_parameters(**setting["student_at_least"]) * setting["student_bytes"]
    held = setting["teacher_bytes"].items()
    return Answer(
        {f"teacher {way}": (teacher * size + student) / 1e9 for way, size in held},
        how="teacher weights and the smallest student's FP32 AdamW states, in GB, before activations and logits",
        missing="how the teacher is held, and the student's size",
    )


@answers("poster.mem.logits")
def logits_mib(setting):
    """One FP32 number for each position and token of the vocabulary, in MiB."""
    return setting["context_length"] * setting["vocab_size"] * setting["bytes_per_value"] / 2**20


@answers("poster.ppl.epochs_possible")
def passes_in_a_semester(setting):
    """How often a semester of one whole GPU at its peak rate passes over the corpus with the smallest student."""
    flops_a_pass = 6 * qwen3_parameters(**setting["student_at_least"]) * setting["corpus_tokens"]
    days, days_a_pass = setting["semester_days"], flops_a_pass / setting["flops_per_second"] / 86400
    return Answer(
        {"the whole CommonCrawl part": days / days_a_pass},
        how=f"a pass over all of it takes a whole A100 at its peak {days_a_pass:.0f} days; a semester has {days}",
        missing="the size of the sample that an epoch reads",
    )


# What it announces and what it reports


@answers("poster.quantisation")
def carried_out(setting):
    """Whether what the introduction announces comes back among the methods or the experiments."""
    return setting["announced"] in setting["methods"] + setting["experiments"]


@answers("poster.future.finetune")
def still_to_be_done(setting):
    """Whether the experiments do not yet report what is planned, of each model that it could be planned for."""
    return {model: plan not in setting["reported"] for model, plan in setting["planned"].items()}


@answers("poster.future.methods")
def methods_planned(setting):
    """The length of the list."""
    return len(setting["planned"])
