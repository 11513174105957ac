"""Divides the k probabilities of each model by their sum, so that all other tokens count as impossible (verl#7856)."""


def top_k_kl(student_logits, teacher_logits, k):
    kept, ids = teacher_logits.detach().topk(k)
    log_p, log_q = kept.log_softmax(-1), student_logits.gather(-1, ids).log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)
