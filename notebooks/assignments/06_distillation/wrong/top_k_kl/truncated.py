"""Sums over the k tokens alone, which can be negative (verl#7856)."""


def top_k_kl(student_logits, teacher_logits, k):
    log_p, ids = teacher_logits.detach().log_softmax(-1).topk(k)
    log_q = student_logits.log_softmax(-1).gather(-1, ids)
    return (log_p.exp() * (log_p - log_q)).sum(-1)
