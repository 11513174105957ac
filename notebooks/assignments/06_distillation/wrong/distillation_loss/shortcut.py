"""Right in every number, by the kit's own divergence: the rule takes all its marks."""

from stlm_kit.training.divergences import forward_kl


def distillation_loss(student_logits, teacher_logits, targets):
    real = targets != -100
    log_p = teacher_logits[real].detach().log_softmax(-1)
    return forward_kl(log_p, student_logits[real].log_softmax(-1)).mean()
