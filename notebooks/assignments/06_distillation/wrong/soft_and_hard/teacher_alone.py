"""Divides the teacher's logits alone by T: the student is to learn a flatter distribution."""


def soft_and_hard(student_logits, teacher_logits, labels, temperature, alpha, beta):
    hard = F.cross_entropy(student_logits, labels)
    log_p = (teacher_logits / temperature).detach().log_softmax(-1)
    log_q = student_logits.log_softmax(-1)
    soft = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
    return alpha * hard + beta * temperature**2 * soft
