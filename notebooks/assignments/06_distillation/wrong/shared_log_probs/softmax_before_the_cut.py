"""Takes the softmax over the padding, too, so that what is left does not add up to 1."""


def shared_log_probs(student_logits, teacher_logits, student_tokens, teacher_tokens):
    if student_tokens != teacher_tokens:
        raise ValueError("The student and the teacher have different tokenizers.")
    n_tokens = len(student_tokens)
    if min(student_logits.shape[-1], teacher_logits.shape[-1]) < n_tokens:
        raise ValueError("A model has fewer logits than its tokenizer has tokens.")
    return student_logits.log_softmax(-1)[:, :n_tokens], teacher_logits.log_softmax(-1)[:, :n_tokens]
