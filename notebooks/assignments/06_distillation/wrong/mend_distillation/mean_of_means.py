"""Gives each micro-batch the same weight, however many targets it has (trl#4719)."""


def mend_distillation(student, teacher, micro_batches):
    student.zero_grad()
    teacher.eval()
    loss = 0.0
    for ids, targets in micro_batches:
        real = targets != -100
        with torch.no_grad():
            log_p = teacher(ids).log_softmax(-1)
        log_q = student(ids).log_softmax(-1)
        nats = (log_p.exp() * (log_p - log_q)).sum(-1)[real]
        share = nats.mean() / len(micro_batches)
        share.backward()
        loss += share.item()
    return loss
