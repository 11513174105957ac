"""Gives the labels the temperature as well. Passes the public check."""


def soft_and_hard(student_logits, teacher_logits, labels, temperature, alpha, beta):
    hard = F.cross_entropy(student_logits / temperature, labels)
    log_p = (teacher_logits / temperature).detach().log_softmax(-1)
    log_q = (student_logits / temperature).log_softmax(-1)
    soft = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
    return alpha * hard + beta * temperature**2 * soft
