"""Cuts both to the smaller number of logits, whose padding then counts as tokens (LMOps#331)."""


def shared_log_probs(student_logits, teacher_logits, student_tokens, teacher_tokens):
    if student_tokens != teacher_tokens:
        raise ValueError("The student and the teacher have different tokenizers.")
    if min(student_logits.shape[-1], teacher_logits.shape[-1]) < len(student_tokens):
        raise ValueError("A model has fewer logits than its tokenizer has tokens.")
    size = min(student_logits.shape[-1], teacher_logits.shape[-1])
    return student_logits[:, :size].log_softmax(-1), teacher_logits[:, :size].log_softmax(-1)
