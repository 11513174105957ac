"""Never looks at the targets, so that padding is distilled and counted (optipfair#34). Passes the public check."""


def distillation_loss(student_logits, teacher_logits, targets):
    log_q, p = student_logits.log_softmax(-1), teacher_logits.detach().softmax(-1)
    return F.kl_div(log_q, p, reduction="sum") / targets.numel()
