"""Gives `F.kl_div` the teacher first: KL(q || p), the softmax of the wrong side."""


def distillation_loss(student_logits, teacher_logits, targets):
    real = targets != -100
    log_p, q = teacher_logits[real].detach().log_softmax(-1), student_logits[real].softmax(-1)
    return F.kl_div(log_p, q, reduction="sum") / real.sum()
