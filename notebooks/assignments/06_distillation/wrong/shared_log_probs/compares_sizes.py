"""Takes two tokenizers of the same size for one."""


def shared_log_probs(student_logits, teacher_logits, student_tokens, teacher_tokens):
    n_tokens = len(student_tokens)
    if n_tokens != len(teacher_tokens):
        raise ValueError("The student and the teacher have different tokenizers.")
    if min(student_logits.shape[-1], teacher_logits.shape[-1]) < n_tokens:
        raise ValueError("A model has fewer logits than its tokenizer has tokens.")
    return student_logits[:, :n_tokens].log_softmax(-1), teacher_logits[:, :n_tokens].log_softmax(-1)
