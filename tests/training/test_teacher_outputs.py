"""What a teacher says: all logits, top-k with the rest in one outcome, and draws without bias."""

import pytest
import torch
from test_divergences import NAMES, by_hand, softmax

from stlm_kit import UsageError
from stlm_kit.training.divergences import divergence_named
from stlm_kit.training.teacher_outputs import FullLogits, LiveLogits, LiveTeacher, Sampled, TopK

every = pytest.mark.parametrize("name", NAMES)
FORWARD = divergence_named("forward_kl")


@pytest.fixture
def pair():
    """The logits of a teacher and a student at 6 positions, 12 tokens, in float64."""
    generator = torch.Generator().manual_seed(2)
    return tuple(2 * torch.randn(6, 12, generator=generator, dtype=torch.float64) for _ in range(2))


def gradient_by_autograd(outputs, student, divergence, temperature=1.0):
    logits = student.clone().requires_grad_()
    nats, _ = outputs.compare(logits.log_softmax(-1), divergence, temperature)
    return nats.detach(), torch.autograd.grad(nats.sum(), logits)[0]


@every
@pytest.mark.parametrize("kind", ["full", "top-k", "live"])
def test_the_gradient_written_out_is_autograds(name, kind, pair):
    teacher, student = pair
    outputs = {
        "full": FullLogits(teacher),
        "top-k": TopK.of(teacher, 3),
        "live": LiveLogits(teacher, torch.eye(12, dtype=torch.float64), None),
    }[kind]
    divergence = divergence_named(name, 0.4)
    nats, theirs = gradient_by_autograd(outputs, student, divergence)
    again, mine = outputs.compare(student.log_softmax(-1), divergence, 1.0, with_gradient=True)
    assert torch.equal(nats, again)
    assert torch.allclose(mine, theirs, rtol=0, atol=1e-13)
    assert mine.sum(-1).abs().max() < 1e-13  # a constant added to the logits changes nothing


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_all_logits_at_a_temperature(temperature, pair):
    teacher, student = pair
    found, _ = FullLogits(teacher).compare((student / temperature).log_softmax(-1), FORWARD, temperature)
    for nats, p, q in zip(
        found.tolist(), (teacher / temperature).tolist(), (student / temperature).tolist(), strict=True
    ):
        assert nats == pytest.approx(by_hand("forward_kl", softmax(p), softmax(q), 0.5), abs=1e-12)


@every
@pytest.mark.parametrize("k", [1, 3, 11])
def test_top_k_with_the_rest_in_one_outcome(name, k, pair):
    """By hand over k + 1 outcomes; never negative, and never more than over all tokens."""
    teacher, student = pair
    divergence, log_q = divergence_named(name), student.log_softmax(-1)
    found, _ = TopK.of(teacher, k).compare(log_q, divergence, 1.0)
    whole, _ = FullLogits(teacher).compare(log_q, divergence, 1.0)
    for nats, of_all, t, s in zip(found.tolist(), whole.tolist(), teacher.tolist(), student.tolist(), strict=True):
        p, q = softmax(t), softmax(s)
        top = sorted(range(12), key=lambda token: -p[token])[:k]
        coarse = ([d[token] for token in top] + [1 - sum(d[token] for token in top)] for d in (p, q))
        assert nats == pytest.approx(by_hand(name, *coarse, 0.5), abs=1e-12)
        assert nats <= of_all + 1e-12
    if k == 11:  # one token is left, so nothing is lost
        assert torch.allclose(found, whole, rtol=0, atol=1e-12)


@every
def test_top_k_is_never_negative_even_for_extreme_students(name):
    """In float32, with a student that has learned the teacher's k tokens or gives the rest almost nothing."""
    generator = torch.Generator().manual_seed(3)
    teacher = torch.randn(500, 40, generator=generator) * torch.rand(500, 1, generator=generator) * 12
    noise = torch.randn(500, 40, generator=generator)
    divergence = divergence_named(name)
    for student in (
        teacher,
        teacher + 0.01 * noise,
        30 * noise,
        teacher.clone().scatter_(-1, teacher.topk(3)[1], 40.0),
    ):
        nats, gradient = TopK.of(teacher, 3).compare(student.log_softmax(-1), divergence, 1.0, with_gradient=True)
        assert nats.min() > -2e-6 and torch.isfinite(nats).all() and torch.isfinite(gradient).all()


def test_without_the_rest_the_same_sum_is_negative(pair):
    """The fault that the last outcome prevents: p over its top k, unnormalized, against a student sure of them."""
    top = TopK.of(pair[0], 2)
    student = torch.zeros(6, 12, dtype=torch.float64).scatter_(-1, top.ids, 9.0).log_softmax(-1)
    cut = (top.log_probs.exp() * (top.log_probs - student.gather(-1, top.ids))).sum(-1)
    assert cut.min() < -0.1 and top.compare(student, FORWARD, 1.0)[0].min() > 0


def test_draws_are_without_bias(pair):
    """The mean over 4,000 draws of 3 tokens lies within five standard errors of the value over all logits."""
    teacher, student = (logits[:1].expand(4000, -1) for logits in pair)
    outputs = Sampled.of(teacher, 3, generator=torch.Generator().manual_seed(4))
    log_q = student.log_softmax(-1)
    drawn, gradients = outputs.compare(log_q, FORWARD, 1.0, with_gradient=True)
    exact, gradient = FullLogits(teacher[:1]).compare(log_q[:1], FORWARD, 1.0, with_gradient=True)
    assert drawn.std() > 0.1  # single draws are far off
    assert abs(drawn.mean() - exact) < 5 * drawn.std() / 4000**0.5
    errors = (gradients.mean(0) - gradient[0]).abs()
    assert (errors < 5 * gradients.std(0) / 4000**0.5 + 1e-12).all()
    renormalized = TopK.of(teacher[:1], 3)
    p = torch.zeros(12, dtype=torch.float64).scatter_(0, renormalized.ids[0], renormalized.log_probs[0].softmax(-1))
    biased = student[0].softmax(-1) - p  # the gradient of a top-k that is renormalized instead
    assert (biased - gradient[0]).abs().max() > 5 * errors.max()


def test_the_gradient_of_draws_is_autograds_and_the_entropy_shifts_the_value_alone(pair):
    teacher, student = pair
    outputs = Sampled.of(teacher, 5, generator=torch.Generator().manual_seed(5))
    without = Sampled(outputs.ids, outputs.weights)
    _, theirs = gradient_by_autograd(outputs, student, FORWARD)
    kl, mine = outputs.compare(student.log_softmax(-1), FORWARD, 1.0, with_gradient=True)
    against, same = without.compare(student.log_softmax(-1), FORWARD, 1.0, with_gradient=True)
    assert torch.allclose(mine, theirs, rtol=0, atol=1e-13) and torch.equal(mine, same)
    entropy = torch.distributions.Categorical(logits=teacher).entropy()
    assert torch.allclose(against - kl, entropy, rtol=0, atol=1e-12)


def test_a_part_is_the_outputs_of_those_positions(pair):
    teacher, student = pair
    log_q, some = student.log_softmax(-1), slice(2, 5)
    drawn = Sampled.of(teacher, 4, generator=torch.Generator().manual_seed(6))
    live = LiveLogits(teacher, torch.eye(12, dtype=torch.float64), None)
    for outputs in (FullLogits(teacher), TopK.of(teacher, 4), drawn, Sampled(drawn.ids, drawn.weights), live):
        whole, part = outputs.compare(log_q, FORWARD, 1.0)[0], outputs.part(some).compare(log_q[some], FORWARD, 1.0)[0]
        assert torch.allclose(part, whole[some], rtol=0, atol=1e-13)


def test_tokens_that_the_teacher_excludes_count_zero(pair):
    teacher, student = pair
    teacher[:, 4] = -torch.inf
    for name in ("forward_kl", "jensen_shannon"):
        nats, gradient = FullLogits(teacher).compare(student.log_softmax(-1), divergence_named(name), 1.0, True)
        assert torch.isfinite(nats).all() and torch.isfinite(gradient).all()
    p, q = softmax(teacher[0].tolist()), softmax(student[0].tolist())
    expected = by_hand("forward_kl", *zip(*[(a, b) for a, b in zip(p, q, strict=True) if a], strict=True), 0.5)
    assert FullLogits(teacher).compare(student.log_softmax(-1), FORWARD, 1.0)[0][0].item() == pytest.approx(expected)


def test_what_draws_cannot_give_and_sizes_out_of_range_are_one_sentence(pair):
    teacher, student = pair
    drawn = Sampled.of(teacher, 2)
    for name in ("reverse_kl", "jensen_shannon"):
        with pytest.raises(UsageError, match=f"{name} needs the teacher's probability of every token"):
            drawn.compare(student.log_softmax(-1), divergence_named(name), 1.0)
    for k in (0, 12):
        with pytest.raises(UsageError, match="give 1 to 11"):
            TopK.of(teacher, k)
    with pytest.raises(UsageError, match="draw 1 token or more"):
        Sampled.of(teacher, 0)


def test_a_live_teacher_is_frozen_without_dropout_and_in_its_own_precision(make_model, batches):
    teacher = LiveTeacher(make_model(dropout=0.5))
    batch = batches[0]
    teacher.train()
    first, second = (teacher.outputs(batch).part(slice(None)).logits for _ in range(2))
    assert torch.equal(first, second) and not first.requires_grad
    assert not teacher.training and not any(p.requires_grad for p in teacher.parameters())
    assert torch.allclose(first, teacher.model(batch.ids).flatten(0, 1), atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # the student's recipe
        inside = teacher.outputs(batch).part(slice(None)).logits
    assert torch.equal(inside, first)
    half = LiveTeacher(teacher.model, "bf16").outputs(batch).part(slice(None)).logits
    assert half.dtype == torch.bfloat16 and torch.allclose(half.float(), first, atol=0.02)
    with pytest.raises(UsageError, match="bf16, fp16 or None, not 'tf32'"):
        LiveTeacher(teacher.model, "tf32")
    with pytest.raises(UsageError, match="Linear has no features and head"):
        LiveTeacher(torch.nn.Linear(2, 2))
