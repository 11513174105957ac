"""Trusts `reduction="mean"`, which divides by the vocabulary as well as by the real targets (trl#4105)."""


def distillation_loss(student_logits, teacher_logits, targets):
    real = targets != -100
    log_q, p = student_logits[real].log_softmax(-1), teacher_logits[real].detach().softmax(-1)
    return F.kl_div(log_q, p, reduction="mean")
