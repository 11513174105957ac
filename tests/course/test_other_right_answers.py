"""Right answers that look nothing like the reference earn every mark and pass the public check."""

import pytest

from stlm_kit.course import self_test as trial
from stlm_kit.course.assignment import folders, read

ASSIGNMENTS = [read(folder) for folder in folders()]

PROBABILITIES_BY_HAND = """\
def sample_next(logits, temperature, keep, u):
    z = logits.tolist()
    ranked = sorted(range(len(z)), key=lambda i: -z[i])[: 1 if temperature == 0 else int(keep)]
    powers = [math.exp((z[i] - max(z)) / temperature) if temperature else 1.0 for i in ranked]
    p = torch.zeros(len(z), dtype=torch.float64)
    p[ranked] = torch.tensor(powers, dtype=torch.float64) / math.fsum(powers)
    so_far = 0.0
    for token in sorted(ranked):
        so_far += p[token].item()
        if p[token] > 0:
            last = token
            if so_far > u:
                break
    return [p, last]
"""
TORCHS_DESCENT = """\
def mend_training_script(model, ids, steps, lr):
    n_train, losses = len(ids) - 40, []
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for windows in steps:
        optimizer.zero_grad()
        used = [(start, start + length) for start, length in windows if start + length <= n_train - 1]
        total, nats = sum(end - start for start, end in used), 0
        for start, end in used:
            loss = -model(ids[start:end]).log_softmax(-1).gather(1, ids[start + 1 : end + 1, None]).sum()
            (loss / total).backward()
            nats += loss.item() / total
        optimizer.step()
        losses.append(nats)
    with torch.inference_mode():
        return tuple(losses), F.cross_entropy(model(ids[n_train - 1 : -1]), ids[n_train:])
"""
PYTHONS_STATISTICS = """\
from statistics import fmean, stdev

def paired_conclusion(baseline, method, claim):
    d = [method[seed] - baseline[seed] for seed in sorted(baseline.keys() & method.keys())]
    if len(d) <= 1:
        return ["cannot know", sum(d), float("-inf"), float("inf")]
    half = STUDENT_T[0.95][len(d) - 1] * stdev(d) / len(d) ** 0.5
    ends = fmean(d) - half, fmean(d) + half
    if claim == "higher":
        yes, no = ends[0] > 0, ends[1] < 0
    else:
        yes, no = ends[1] < 0, ends[0] > 0
    return ["confirmed" if yes else "contradicted" if no else "cannot know", fmean(d), *ends]
"""
MOMENTUM_IN_MICRO_BATCHES = """\
def within_budget(text, mib, operations):
    width = 32 if mib > 0.3 and operations >= 1e8 else 8
    n_rows = 96 if mib > 0.5 and operations >= 1e9 else 64 if operations >= 1e8 else 16
    steps = min(150, int(operations / (6 * (8 * 4 + 256) * width * n_rows)))
    model = NextByte(4, width)
    speeds = [torch.zeros_like(weight) for weight in model.parameters()]
    for step in range(steps):
        model.zero_grad()
        for _ in range(n_rows // 16):
            at = torch.randint(4, text.numel(), (16,))
            before = text[at[:, None] + torch.arange(-4, 0)]
            (nn.functional.cross_entropy(model(before), text[at]) * 16 / n_rows).backward()
        with torch.no_grad():
            for weight, speed in zip(model.parameters(), speeds):
                speed.mul_(0.9).add_(weight.grad)
                weight -= (1 - step / steps) * speed
    return [width, list(model.parameters())]
"""
ADAM_AT_ANOTHER_WIDTH = """\
def within_budget(text, mib, operations):
    roomy = mib > 0.29 and operations > 1e8
    width, n_rows = (24, 64) if roomy else (8, 16)
    model, windows = NextByte(context=4, width=width), text.unfold(0, 5, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02, betas=(0.9, 0.99))
    for _ in range(int(min(operations // (6 * n_rows * width * 288), 140))):
        batch = windows[torch.randint(len(windows), (n_rows,))]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch[:, :4]), batch[:, 4]).backward()
        optimizer.step()
    return width, tuple(weight.data for weight in model.parameters())
"""
NUMBERS_BY_ADDRESS = """\
def stored_parameters(model):
    reached = set()
    for weight in model.parameters():
        addresses = [weight.data_ptr()]
        for size, step in zip(weight.shape, weight.stride()):
            addresses = [start + i * step * weight.element_size() for start in addresses for i in range(size)]
        reached.update(addresses)
    return len(reached)
"""
FROM_THE_LAST_LAYER_DOWN = """\
def shared_gradients(h, weights, order, slope):
    if not order:
        return tuple(torch.zeros_like(weight) for weight in weights), slope
    weight, t = weights[order[0]], torch.tanh(h @ weights[order[0]])
    rest, slope = shared_gradients(h + t, weights, order[1:], slope)
    inner = slope.addcmul(slope * t, t, value=-1)
    own = [gradient + h.T @ inner * (block == order[0]) for block, gradient in enumerate(rest)]
    return own, torch.addmm(slope, inner, weight.T)
"""
CHANGES_BY_EINSUM = """\
def lora_stack(h, shared, lora_in, lora_out):
    for own in range(len(lora_in)):
        thin = nn.functional.linear(h, lora_in[own])
        inside = torch.einsum("or,nr->no", lora_out[own], thin) + nn.functional.linear(h, shared)
        h = torch.add(h, inside * inside.sigmoid())
    return h
"""
KL_BY_EINSUM = """\
def distillation_loss(student_logits, teacher_logits, targets):
    log_p, log_q = teacher_logits.detach().log_softmax(-1), student_logits.log_softmax(-1)
    nats = torch.einsum("bsv,bsv->bs", log_p.exp(), log_p - log_q)
    return nats.masked_fill(targets == -100, 0).sum() / targets.ne(-100).sum()
"""
KL_DIV_OF_LOGARITHMS = """\
def distillation_loss(student_logits, teacher_logits, targets):
    with torch.no_grad():
        log_p = F.log_softmax(teacher_logits.double(), dim=-1)
    nats = F.kl_div(student_logits.double().log_softmax(-1), log_p, reduction="none", log_target=True)
    return nats[targets != -100].sum(-1).mean()
"""
POSITION_BY_POSITION = """\
def distillation_loss(student_logits, teacher_logits, targets):
    nats = []
    for row in range(targets.shape[0]):
        for place in range(targets.shape[1]):
            if targets[row, place] != -100:
                p = teacher_logits[row, place].detach().softmax(0)
                nats.append(F.kl_div(student_logits[row, place].log_softmax(0), p, reduction="sum"))
    return sum(nats) / len(nats)
"""
DIVIDES_GRADIENTS_AT_THE_END = """\
def mend_distillation(student, teacher, micro_batches):
    student.zero_grad(set_to_none=False)
    teacher.requires_grad_(False).eval()
    nats, count = 0.0, 0
    for ids, targets in micro_batches:
        real = targets.flatten() != -100
        p = teacher(ids).softmax(-1).flatten(0, 1)[real]
        total = F.kl_div(student(ids).log_softmax(-1).flatten(0, 1)[real], p, reduction="sum")
        total.backward()
        nats, count = nats + total.detach(), count + int(real.sum())
    for weight in student.parameters():
        weight.grad /= count
    return nats / count
"""
TAIL_POSITION_BY_POSITION = """\
def top_k_kl(student_logits, teacher_logits, k):
    found = []
    for mine, its in zip(student_logits, teacher_logits.detach()):
        ranked = its.argsort(descending=True)
        log_p, log_q = (z - z.logsumexp(0) for z in (its[ranked], mine[ranked]))
        tail_p, tail_q = log_p[k:].logsumexp(0), log_q[k:].logsumexp(0)
        kept = (log_p[:k].exp() * (log_p[:k] - log_q[:k])).sum()
        found.append(kept + tail_p.exp() * (tail_p - tail_q))
    return torch.stack(found)
"""
SAMPLED_BY_INVERSION = """\
def sampled_teacher(logits, k, generator):
    cumulative = logits.softmax(-1).cumsum(-1)
    u = torch.rand(len(logits), k, generator=generator, dtype=logits.dtype) * cumulative[:, -1:]
    ids = torch.searchsorted(cumulative, u, right=True).clamp(max=logits.shape[-1] - 1)
    return ids, torch.ones_like(u) / k
"""
SAMPLED_BY_GUMBELS = """\
def sampled_teacher(logits, k, generator):
    u = torch.rand(*logits.shape, k, generator=generator, dtype=torch.float64)
    ids = (logits[:, :, None] - (-u.log()).log()).argmax(1)
    return ids, torch.full(ids.shape, 1 / k, dtype=logits.dtype)
"""
HINTONS_LOSS = """\
def soft_and_hard(student_logits, teacher_logits, labels, temperature, alpha, beta):
    p = F.softmax(teacher_logits.detach() / temperature, dim=-1)
    soft = F.kl_div(F.log_softmax(student_logits / temperature, dim=-1), p, reduction="batchmean")
    hard = -student_logits.log_softmax(-1)[torch.arange(len(labels)), labels].mean()
    return alpha * hard + beta * temperature * temperature * soft
"""
PADDING_EXCLUDED = """\
def shared_log_probs(student_logits, teacher_logits, student_tokens, teacher_tokens):
    if len(student_tokens) != len(teacher_tokens) or any(a != b for a, b in zip(student_tokens, teacher_tokens)):
        raise ValueError("These are two tokenizers.")
    found = []
    for logits in (student_logits, teacher_logits):
        if logits.shape[1] < len(student_tokens):
            raise ValueError("There is not a logit for each token.")
        padding = torch.arange(logits.shape[1]) >= len(student_tokens)
        found.append(logits.masked_fill(padding, -torch.inf).log_softmax(-1)[:, ~padding])
    return found
"""
STREAMS_BY_LINEAR = """\
def matched_states(student, teacher, projection, targets):
    mine, real = F.linear(student, projection), targets.ne(-100)
    return F.mse_loss(mine, teacher.detach(), reduction="none").mean(-1).where(real, 0).sum() / real.sum()
"""


@pytest.mark.parametrize(
    ("exercise", "code"),
    [
        ("sample_next", PROBABILITIES_BY_HAND),
        ("mend_training_script", TORCHS_DESCENT),
        ("paired_conclusion", PYTHONS_STATISTICS),
        ("within_budget", MOMENTUM_IN_MICRO_BATCHES),
        ("within_budget", ADAM_AT_ANOTHER_WIDTH),
        ("stored_parameters", NUMBERS_BY_ADDRESS),
        ("shared_gradients", FROM_THE_LAST_LAYER_DOWN),
        ("lora_stack", CHANGES_BY_EINSUM),
        ("distillation_loss", KL_BY_EINSUM),
        ("distillation_loss", KL_DIV_OF_LOGARITHMS),
        ("distillation_loss", POSITION_BY_POSITION),
        ("mend_distillation", DIVIDES_GRADIENTS_AT_THE_END),
        ("top_k_kl", TAIL_POSITION_BY_POSITION),
        ("sampled_teacher", SAMPLED_BY_INVERSION),
        ("sampled_teacher", SAMPLED_BY_GUMBELS),
        ("soft_and_hard", HINTONS_LOSS),
        ("shared_log_probs", PADDING_EXCLUDED),
        ("matched_states", STREAMS_BY_LINEAR),
    ],
)
def test_another_right_answer_earns_everything(exercise, code):
    assignment = next(each for each in ASSIGNMENTS if exercise in {one.id for one in each.exercises})
    found = trial.marks_of(assignment, exercise, code)
    assert {cell: mark.sentence for cell, mark in found.items() if not mark.passed} == {}
