"""Right in every number, by the kit's own outputs of a teacher: the rule takes all its marks."""

from stlm_kit.training.teacher_outputs import FullLogits


def shared_log_probs(student_logits, teacher_logits, student_tokens, teacher_tokens):
    if student_tokens != teacher_tokens:
        raise ValueError("The student and the teacher have different tokenizers.")
    n_tokens = len(student_tokens)
    if min(student_logits.shape[-1], teacher_logits.shape[-1]) < n_tokens:
        raise ValueError("A model has fewer logits than its tokenizer has tokens.")
    return tuple(FullLogits(logits).log_p(n_tokens, 1.0) for logits in (student_logits, teacher_logits))
