"""The faults that distillation libraries have shipped are rejected, each with a sentence that says what is wrong.

Those of `notebooks/assignments/06_distillation/wrong/`, and more ways to write them.
"""

import pytest

from stlm_kit.course import self_test as trial
from stlm_kit.course.assignment import load

ASSIGNMENT = load("06_distillation")

SHIPPED = [  # (exercise, wrong solution, the mark that is about it, what the student is told)
    ("distillation_loss", "mean_over_everything", "sum", "divided by the size of the vocabulary"),  # trl#4105
    ("distillation_loss", "distils_padding", "padding", "at padding changes the loss"),  # optipfair#34
    ("distillation_loss", "arguments_swapped", "sum", "have changed places"),
    ("distillation_loss", "log_target", "sum", "taken for logarithms (log_target)"),
    ("mend_distillation", "mean_of_means", "cuts", "mean of the micro-batches' means"),  # trl#4719
    ("mend_distillation", "teacher_in_training_mode", "teacher", "teacher's dropout is on"),
    ("mend_distillation", "distils_padding", "padding", "at padding is distilled as well"),
    ("mend_distillation", "softmax_over_positions", "one", "runs over the positions"),
    ("top_k_kl", "renormalised", "kept", "divided by their sum"),  # verl#7856
    ("top_k_kl", "truncated", "bounds", "A value is negative"),
    ("top_k_kl", "clamped", "bounds", "a negative sum is clamped"),
    ("top_k_kl", "one_minus_the_sum", "tail", "1 minus the other probabilities is rounded to 0"),
    ("sampled_teacher", "most_probable", "expectation", "most probable tokens are taken"),
    ("sampled_teacher", "without_replacement", "independent", "without replacement"),
    ("sampled_teacher", "counts_probability_twice", "weights", "count twice"),
    ("sampled_teacher", "shared_draws", "independent", "All positions have the same draws"),
    ("soft_and_hard", "t_squared_left_out", "teacher", "The factor T² is left out"),
    ("soft_and_hard", "labels_at_temperature", "labels", "cross-entropy is at the temperature"),
    ("soft_and_hard", "student_alone", "teacher", "in the student's softmax alone"),
    ("soft_and_hard", "teacher_alone", "teacher", "in the teacher's softmax alone"),
    ("shared_log_probs", "cuts_to_the_smaller", "cut", "cut to the smaller number of logits"),  # LMOps#331
    ("shared_log_probs", "softmax_before_the_cut", "padding", "the softmax came before the cut"),
    ("shared_log_probs", "compares_sizes", "refusal", "one other token is not refused"),
    ("shared_log_probs", "ignores_the_order", "refusal", "in another order is not refused"),
    ("matched_states", "the_teacher_learns", "gradient", "reaches the teacher's streams"),
    ("matched_states", "padding_too", "padding", "Streams at padding are compared"),
]

LOSS = """\
def distillation_loss(student_logits, teacher_logits, targets):
    real = targets != -100
    z, v = student_logits[real], teacher_logits[real]
    return {}
"""
MEAN_OF_ROWS = """\
def distillation_loss(student_logits, teacher_logits, targets):
    real = (targets != -100).double()
    p, log_q = teacher_logits.detach().softmax(-1), student_logits.log_softmax(-1)
    nats = F.kl_div(log_q, p, reduction="none").sum(-1) * real
    return (nats.sum(1) / real.sum(1).clamp(min=1)).mean()
"""
TOP_K = """\
def top_k_kl(student_logits, teacher_logits, k):
    kept, ids = teacher_logits.detach().topk(k)
    log_p, log_q = kept.log_softmax(-1), student_logits.log_softmax(-1).gather(-1, ids)
    return (log_p.exp() * (log_p - log_q)).sum(-1)
"""
SAMPLED = """\
def sampled_teacher(logits, k, generator):
    p = logits.softmax(-1)
    {}
    return ids, torch.full(ids.shape, 1 / k, dtype=p.dtype)
"""
SOFT = """\
def soft_and_hard(student_logits, teacher_logits, labels, temperature, alpha, beta):
    t, hard = temperature, F.cross_entropy(student_logits, labels)
    log_p, log_q = (teacher_logits.detach() / t).log_softmax(-1), (student_logits / t).log_softmax(-1)
    return {}
"""
TEACHER_LEARNS = """\
def mend_distillation(student, teacher, micro_batches):
    student.zero_grad()
    teacher.eval()
    count, loss = sum(int((targets != -100).sum()) for _, targets in micro_batches), 0.0
    for ids, targets in micro_batches:
        log_p, log_q = teacher(ids).log_softmax(-1), student(ids).log_softmax(-1)
        share = (log_p.exp() * (log_p - log_q)).sum(-1)[targets != -100].sum() / count
        share.backward()
        loss += share.item()
    return loss
"""
ALL_GRAPHS_AT_ONCE = """\
def mend_distillation(student, teacher, micro_batches):
    student.zero_grad()
    teacher.requires_grad_(False).eval()
    found = []
    for ids, targets in micro_batches:
        p, log_q = teacher(ids).softmax(-1), student(ids).log_softmax(-1)
        found.append(F.kl_div(log_q, p, reduction="none").sum(-1)[targets != -100])
    loss = torch.cat(found).mean()
    loss.backward()
    return loss
"""
PADDED_WITH_ZEROS = """\
def shared_log_probs(student_logits, teacher_logits, student_tokens, teacher_tokens):
    if student_tokens != teacher_tokens:
        raise ValueError("Other tokens.")
    size = max(student_logits.shape[-1], teacher_logits.shape[-1])
    both = [F.pad(logits, (0, size - logits.shape[-1])) for logits in (student_logits, teacher_logits)]
    return tuple(logits.log_softmax(-1) for logits in both)
"""
WRITTEN = [
    (
        "distillation_loss",
        LOSS.format('F.kl_div(z.log_softmax(-1), v.detach().log_softmax(-1), reduction="sum") / real.sum()'),
        "sum",
        "(log_target)",
    ),
    (
        "distillation_loss",  # the cross-entropy under the name of the KL
        LOSS.format("-(v.detach().softmax(-1) * z.log_softmax(-1)).sum() / real.sum()"),
        "sum",
        "teacher's entropy is not subtracted",
    ),
    (
        "distillation_loss",
        LOSS.format("(v.softmax(-1) * (v.log_softmax(-1) - z.log_softmax(-1))).sum() / real.sum()"),
        "gradient",
        "reaches the teacher's logits",
    ),
    (
        "distillation_loss",
        LOSS.format("(v.detach().softmax(-1) * (v.detach().softmax(-1) / z.softmax(-1)).log()).sum() / real.sum()"),
        "extremes",
        "use log_softmax",
    ),
    (
        "distillation_loss",
        LOSS.format('F.kl_div(z.log_softmax(-1), v.detach().softmax(-1), reduction="sum") / targets.numel()'),
        "padding",
        "padding is counted",
    ),
    ("distillation_loss", MEAN_OF_ROWS, "padding", "not the mean over the real targets"),
    ("mend_distillation", ALL_GRAPHS_AT_ONCE, "cuts", "forward and backward in turn"),
    ("mend_distillation", TEACHER_LEARNS, "teacher", "reaches the teacher's weights"),
    ("top_k_kl", TOP_K, "kept", "divided by their sum"),  # the teacher's probabilities alone
    (
        "sampled_teacher",
        SAMPLED.format("ids = torch.multinomial(p, k, replacement=True)"),
        "generator",
        "torch's global generator",
    ),
    (
        "sampled_teacher",
        SAMPLED.format("ids = torch.multinomial(p, 1, generator=generator).expand(-1, k)"),
        "independent",
        "come together too often",
    ),
    (
        "sampled_teacher",
        SAMPLED.format("ids = torch.randint(p.shape[-1], (len(p), k), generator=generator)"),
        "expectation",
        "A rare token weighs more",
    ),
    (
        "soft_and_hard",
        SOFT.format('alpha * hard + beta * t * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)'),
        "teacher",
        "The factor is T, not T²",
    ),
    (
        "soft_and_hard",
        SOFT.format('alpha * hard + beta * t**2 * F.kl_div(log_q, log_p, reduction="mean", log_target=True)'),
        "teacher",
        "has become a mean",
    ),
    (
        "soft_and_hard",
        SOFT.format('t**2 * (alpha * hard + beta * F.kl_div(log_q, log_p.exp(), reduction="batchmean"))'),
        "labels",
        "multiplied by T² as well",
    ),
    ("shared_log_probs", PADDED_WITH_ZEROS, "cut", "is not cut to the tokens"),
]


def check_told(exercise, code, mark, sentence):
    """Whether an answer loses a mark with this sentence, and the rules have nothing against it."""
    found = trial.marks_of(ASSIGNMENT, exercise, code)
    lost = {cell: each.sentence for cell, each in found.items() if not each.passed}
    assert sentence in lost.get(f"{exercise}-{mark}", ""), lost
    assert not any("forbids" in each for each in lost.values())


@pytest.mark.parametrize(("exercise", "wrong", "mark", "sentence"), SHIPPED)
def test_a_fault_that_was_shipped_is_named(exercise, wrong, mark, sentence):
    check_told(exercise, trial.answer(ASSIGNMENT, exercise, wrong), mark, sentence)


@pytest.mark.parametrize(("exercise", "code", "mark", "sentence"), WRITTEN)
def test_a_fault_in_other_words_is_named(exercise, code, mark, sentence):
    check_told(exercise, code, mark, sentence)
