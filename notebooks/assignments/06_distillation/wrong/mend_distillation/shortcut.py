"""Right in every number, by the kit's own teacher and divergence: the rule takes all its marks."""

from stlm_kit.training.divergences import forward_kl


def mend_distillation(student, teacher, micro_batches):
    student.zero_grad()
    teacher.eval()
    count = sum(int((targets != -100).sum()) for _, targets in micro_batches)
    loss = 0.0
    for ids, targets in micro_batches:
        with torch.no_grad():
            log_p = teacher(ids).log_softmax(-1)
        share = forward_kl(log_p, student(ids).log_softmax(-1))[targets != -100].sum() / count
        share.backward()
        loss += share.item()
    return loss
