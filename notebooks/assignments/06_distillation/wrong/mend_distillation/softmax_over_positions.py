"""Takes the student's softmax over the positions of a row."""


def mend_distillation(student, teacher, micro_batches):
    student.zero_grad()
    teacher.eval()
    count = sum(int((targets != -100).sum()) for _, targets in micro_batches)
    loss = 0.0
    for ids, targets in micro_batches:
        real = targets != -100
        with torch.no_grad():
            log_p = teacher(ids).log_softmax(-1)
        log_q = student(ids).log_softmax(1)
        nats = (log_p.exp() * (log_p - log_q)).sum(-1)[real]
        share = nats.sum() / count
        share.backward()
        loss += share.item()
    return loss
