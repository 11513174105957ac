"""The distillation loss: by hand in float64, chunked as plain, real targets alone, T squared, and what is refused."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from test_divergences import NAMES, by_hand, softmax

from stlm_kit import Schedule, UsageError
from stlm_kit.data.batches import IGNORE, Batch
from stlm_kit.training.distillation import DistillationLoss
from stlm_kit.training.hidden_states import HiddenStates
from stlm_kit.training.label_loss import LabelLoss
from stlm_kit.training.optimizer import build_optimizer
from stlm_kit.training.recipe import Recipe
from stlm_kit.training.settings import TrainingSettings
from stlm_kit.training.step import Step
from stlm_kit.training.teacher_outputs import FullLogits, Sampled, TopK

every = pytest.mark.parametrize("name", NAMES)


class Cached:
    """A teacher whose outputs were made before: `make(logits)` for all rows, found by the batch's rows."""

    def __init__(self, model, ids, make):
        with torch.no_grad():
            logits = model(ids)
        self.made = [make(each) for each in logits]  # for each row

    def outputs(self, batch):
        found = [self.made[row] for row in batch.rows.tolist()]
        names = [name for name, value in vars(found[0]).items() if isinstance(value, torch.Tensor)]
        joined = {name: torch.cat([getattr(each, name) for each in found]) for name in names}
        return type(found[0])(**{**vars(found[0]), **joined})

    def describe(self):
        return {"content": "a hash"}


@pytest.fixture
def student(make_model):
    return make_model(seed=1, init_std=0.2).double().eval()


@pytest.fixture
def teacher(make_model):
    return make_model(seed=2, init_std=0.3, d_model=24).double().eval()


@pytest.fixture
def batch(batches):
    given = batches[0]
    targets = given.targets.clone()
    targets[0, 5:], targets[3, :] = IGNORE, IGNORE
    return Batch(given.ids, targets, rows=torch.arange(4))


def gradients(nats, model, loss=None):
    parts = [*model.parameters(), *(p for p in getattr(loss, "parameters", list)() if p.requires_grad)]
    return torch.autograd.grad(nats, parts)


def same(mine, theirs, atol=1e-12):
    assert all(torch.allclose(one, other, rtol=0, atol=atol) for one, other in zip(mine, theirs, strict=True))


@every
def test_the_loss_by_hand(name, student, teacher, batch):
    """alpha times the cross-entropy plus beta T^2 times the divergence at temperature T, over real targets alone."""
    loss = DistillationLoss(teacher, alpha=0.3, beta=0.7, divergence=name, temperature=2.0, jsd_beta=0.4)
    value = loss(student, batch, 1)
    mine, theirs = (model(batch.ids).flatten(0, 1).tolist() for model in (student, loss.teacher.model))
    cross_entropy = divergence = 0.0
    for s, t, target in zip(mine, theirs, batch.targets.flatten().tolist(), strict=True):
        if target != IGNORE:
            cross_entropy -= math.log(softmax(s)[target])
            divergence += by_hand(name, softmax([x / 2 for x in t]), softmax([x / 2 for x in s]), 0.4)
    assert value.count == 21
    assert value.log["cross_entropy"].item() == pytest.approx(cross_entropy, abs=1e-9)
    assert value.log["divergence"].item() == pytest.approx(divergence, abs=1e-9)
    assert value.nats.item() == pytest.approx(0.3 * cross_entropy + 0.7 * 4 * divergence, abs=1e-9)


def test_the_forward_kl_is_torchs_sum_over_real_targets(student, teacher, batch):
    value = DistillationLoss(teacher, alpha=0.0)(student, batch, 1)
    real = batch.targets != IGNORE
    log_q, log_p = (model(batch.ids)[real].log_softmax(-1) for model in (student, teacher))
    theirs = F.kl_div(log_q, log_p, reduction="sum", log_target=True)
    assert value.nats.item() == pytest.approx(theirs.item(), abs=1e-12)
    mean = F.kl_div(log_q, log_p, reduction="none", log_target=True).mean()  # divides by the vocabulary as well
    assert (value.nats / value.count / mean).item() == pytest.approx(17)
    same(gradients(value.nats, student), gradients(theirs, student))


KINDS = {
    "live": lambda teacher, ids: teacher,
    "full": lambda teacher, ids: Cached(teacher, ids, FullLogits),
    "top-k": lambda teacher, ids: Cached(teacher, ids, lambda logits: TopK.of(logits, 4, 2.0)),
    "sampled": lambda teacher, ids: Cached(
        teacher, ids, lambda logits: Sampled.of(logits, 4, 2.0, torch.Generator().manual_seed(0))
    ),
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in KINDS for name in (NAMES[:1] if kind == "sampled" else NAMES)]
)
def test_the_chunked_loss_is_the_plain_one(kind, name, student, teacher, batch, monkeypatch):
    weights = torch.rand(4, 8, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    batch = Batch(batch.ids, batch.targets, weights=weights, rows=batch.rows)
    settings = {"alpha": 0.4, "beta": 0.6, "divergence": name, "temperature": 2.0}
    settings["labels"] = LabelLoss(smoothing=0.1, temperature=1.5)
    monkeypatch.setattr("stlm_kit.training.loss.chunk_rows", lambda kind: 6)
    monkeypatch.setattr("stlm_kit.training.loss.cached_rows", lambda kind, rows: 4)
    of = KINDS[kind](teacher, batch.ids)
    chunked, plain = (DistillationLoss(of, **settings, chunked=which)(student, batch, 1) for which in (True, False))
    assert chunked.nats.item() == pytest.approx(plain.nats.item(), abs=1e-11)
    for figure, value in plain.log.items():
        assert chunked.log[figure].item() == pytest.approx(value.item(), abs=1e-11)
    same(gradients(3 * chunked.nats, student), gradients(3 * plain.nats, student))


def test_the_chunked_loss_in_bf16_rounds_as_the_plain_one_does(make_model, batch):
    student, teacher = make_model(seed=1, init_std=0.2).eval(), make_model(seed=2, init_std=0.3)
    found = []
    for chunked in (True, False):
        loss = DistillationLoss(teacher, alpha=0.5, beta=0.5, chunked=chunked)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(student, batch, 1)
        found.append((value, gradients(value.nats, student)))
    (chunked, mine), (plain, theirs) = found
    assert chunked.nats.dtype == torch.float32
    assert chunked.nats.item() == pytest.approx(plain.nats.item(), rel=2**-7)
    for one, other in zip(mine, theirs, strict=True):
        assert torch.allclose(one, other, rtol=2**-5, atol=2**-5 * other.abs().max().item())


def test_micro_batches_of_unequal_size_give_what_their_union_gives(make_model, teacher, batch):
    torch.manual_seed(3)
    hidden = HiddenStates([(1, 2)], 16, 24).double()
    loss = DistillationLoss(teacher, alpha=0.3, beta=0.7, hidden=hidden)
    parts = [Batch(batch.ids[:1], batch.targets[:1]), Batch(batch.ids[1:], batch.targets[1:])]
    found = []
    for given in ([batch], parts):
        model = make_model().double().eval()
        step = Step(model, build_optimizer(model, TrainingSettings(), loss=loss), Recipe(), clip=0.0, loss=loss)
        value = float(step.compute(given))
        grads = [p.grad.clone() for p in (*model.parameters(), *hidden.parameters())]
        found.append((value, grads, {name: float(figure) for name, figure in step.logged.items()}))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
    assert found[0][2] == pytest.approx(found[1][2], rel=1e-12)
    same(found[0][1], found[1][1], 1e-14)
    means = [step.forward(part).nats.item() / part.weight for part in parts]
    assert abs(sum(means) / 2 - found[0][0]) > 1e-3  # the mean of two means is another number


def test_padding_gives_no_loss_whatever_stands_there(student, teacher, batch):
    filled = batch.ids.clone()
    filled[0, 5:], filled[3, :] = 3, 5
    loss = DistillationLoss(teacher, alpha=0.5, beta=0.5)
    first, second = loss(student, batch, 1), loss(student, Batch(filled, batch.targets), 1)
    assert first.nats.item() == pytest.approx(second.nats.item(), abs=1e-12) and first.count == second.count == 21
    cached = Cached(teacher, batch.ids, FullLogits)
    cached.made[3] = FullLogits(torch.full_like(cached.made[3].logits, torch.nan))
    for chunked in (True, False):
        value = DistillationLoss(cached, alpha=0.5, beta=0.5, chunked=chunked)(student, batch, 1)
        assert value.nats.item() == pytest.approx(first.nats.item(), abs=1e-12)
    empty = Batch(batch.ids, torch.full_like(batch.targets, IGNORE))
    assert loss(student, empty, 1).nats.item() == loss(student, empty, 1).count == 0


def test_t_squared_keeps_the_size_of_the_gradient(student, teacher, batch):
    """Without the factor a gradient at T = 8 is about 64 times smaller than the limit; with it, it stays."""
    size = {}
    for temperature in (8.0, 16.0):
        for squared in (True, False):
            loss = DistillationLoss(teacher, temperature=temperature, t_squared=squared)
            nats = loss(student, batch, 1).nats
            size[temperature, squared] = sum(g.square().sum() for g in gradients(nats, student)).sqrt().item()
    assert size[8.0, True] == pytest.approx(64 * size[8.0, False], rel=1e-12)
    assert size[16.0, True] == pytest.approx(size[8.0, True], rel=0.3)
    assert size[16.0, False] == pytest.approx(size[8.0, False] / 4, rel=0.3)


def test_beta_warms_up(student, teacher, batch):
    loss = DistillationLoss(teacher, alpha=0.3, beta=Schedule(start=0.8, warmup_steps=4))
    for step, beta in ((1, 0.2), (3, 0.6), (4, 0.8), (9, 0.8)):
        value = loss(student, batch, step)
        assert value.log["beta"] / value.count == pytest.approx(beta)
        parts = 0.3 * value.log["cross_entropy"] + beta * value.log["divergence"]
        assert value.nats.item() == pytest.approx(parts.item(), abs=1e-11)


@pytest.mark.parametrize("distance", ["mean_squared", "cosine"])
def test_hidden_states_are_matched_by_a_trained_projection(distance, student, teacher, batch):
    torch.manual_seed(4)
    hidden = HiddenStates([(1, 2), (2, 1)], 16, 24, distance, weight=0.5).double()
    loss = DistillationLoss(teacher, beta=0.0, hidden=hidden)
    value = loss(student, batch, 1)
    _, mine = student.features(batch.ids, layers=[1, 2])
    _, theirs = teacher.features(batch.ids, layers=[2, 1])
    expected = 0.0
    for projection, s, t in zip(hidden.projections, mine, theirs, strict=True):
        for row in range(4):
            for place in range(8):
                if batch.targets[row, place] != IGNORE:
                    a, b = (projection.weight @ s[row, place]).tolist(), t[row, place].tolist()
                    if distance == "cosine":
                        dot = sum(x * y for x, y in zip(a, b, strict=True))
                        expected += 1 - dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
                    else:
                        expected += sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / 24
    assert value.log["hidden_distance"].item() == pytest.approx(expected / 2, abs=1e-10)
    assert value.nats.item() == pytest.approx(0.5 * expected / 2, abs=1e-10)
    found = torch.autograd.grad(value.nats, [*hidden.parameters(), student.embedding.weight])
    assert all(grad.abs().max() > 0 for grad in found)
    assert hidden.describe() == {"layers": [(1, 2), (2, 1)], "distance": distance, "weight": 0.5}


def test_vocabularies_padded_differently_are_cut_or_refused(make_model, batch):
    """A tokenizer of 17 tokens, a student padded to 20 and a teacher to 24: as two models of 17 tokens."""
    student = make_model(seed=1, vocab_size=20, init_std=0.2).double().eval()
    teacher = make_model(seed=2, vocab_size=24, init_std=0.3).double().eval()
    real = batch.targets != IGNORE
    log_q, log_p = (model(batch.ids)[real][:, :17].log_softmax(-1) for model in (student, teacher))
    expected = F.kl_div(log_q, log_p, reduction="sum", log_target=True)
    for chunked in (True, False):
        nats = DistillationLoss(teacher, vocab_size=17, chunked=chunked)(student, batch, 1).nats
        assert nats.item() == pytest.approx(expected.item(), abs=1e-12)
        head = torch.autograd.grad(nats, student.embedding.weight)[0]
        assert head[17:].abs().max() == 0 and head[:17].abs().max() > 0
    with pytest.raises(UsageError, match="teacher has 24 logits and the student 20; if both use one tokenizer"):
        DistillationLoss(teacher)(student, batch, 1)
    with pytest.raises(UsageError, match="vocab_size = 21 is more than the 20 logits"):
        DistillationLoss(teacher, vocab_size=21)(student, batch, 1)


def test_kept_tokens_belong_to_one_vocabulary(make_model, batch):
    """Full logits can be cut. Top-k and draws cannot: their probabilities belong to one softmax."""
    student = make_model(seed=1, vocab_size=20).double().eval()
    teacher = make_model(seed=2, vocab_size=24).double().eval()
    for make in (lambda logits: TopK.of(logits, 4), lambda logits: Sampled.of(logits, 4)):
        with pytest.raises(UsageError, match="made for 24 tokens and the loss compares 17; make them again"):
            DistillationLoss(Cached(teacher, batch.ids, make), vocab_size=17)(student, batch, 1)

        def cut(logits, make=make):
            return make(logits[:, :17])

        value = DistillationLoss(Cached(teacher, batch.ids, cut), vocab_size=17)(student, batch, 1)
        assert torch.isfinite(value.nats)
        with pytest.raises(UsageError, match="made for 17 tokens and the loss compares 20"):
            DistillationLoss(Cached(teacher, batch.ids, cut))(student, batch, 1)


def test_what_does_not_fit_is_one_sentence(make_model, student, teacher, batch):
    top = Cached(teacher, batch.ids, lambda logits: TopK.of(logits, 4, 1.0))
    drawn = Cached(teacher, batch.ids, lambda logits: Sampled.of(logits, 4))
    hidden = HiddenStates([(1, 1)], 16, 24)
    for make, sentence in (
        (lambda: DistillationLoss(teacher, temperature=0.0), "temperature = 0.0 will not do"),
        (lambda: DistillationLoss(teacher, alpha=-1.0), "alpha = -1.0 will not do; give a number of at least 0"),
        (lambda: DistillationLoss(teacher, beta=True), "beta = True will not do"),
        (lambda: DistillationLoss(teacher, beta=Schedule(kind="linear", start=1.0, end=-1.0)), "beta = -1.0"),
        (lambda: DistillationLoss(teacher, beta=0.0), "nothing to train"),
        (lambda: DistillationLoss("smollm2"), "str is no teacher"),
        (lambda: DistillationLoss(top, hidden=hidden), "Cached outputs hold no hidden states"),
        (lambda: LabelLoss(smoothing=1.0), "smoothing = 1.0 will not do; give a number of at least 0 and less than 1"),
        (lambda: HiddenStates([], 4, 4), "need a pair of layers"),
        (lambda: HiddenStates([(1, 1)], 4, 4, "dot"), "no distance 'dot'"),
        (lambda: DistillationLoss(top, temperature=2.0)(student, batch, 1), "made at temperature 1.0 and the loss has"),
        (lambda: DistillationLoss(drawn, divergence="reverse_kl")(student, batch, 1), "have only draws"),
        (lambda: DistillationLoss(teacher, hidden=HiddenStates([(1, 1)], 16, 16))(student, batch, 1), "24 wide and"),
        (lambda: DistillationLoss(teacher)(torch.nn.Linear(2, 2), batch, 1), "Linear has no features and head"),
    ):
        with pytest.raises(UsageError, match=sentence):
            make()
    own = make_model()
    loss = DistillationLoss(own)
    with pytest.raises(UsageError, match="The teacher is the student itself"):
        loss(own, batch, 1)


def test_the_settings_can_be_written_as_json(teacher, batch):
    loss = DistillationLoss(
        teacher, alpha=0.1, beta=Schedule(start=0.5, warmup_steps=3), hidden=HiddenStates([(1, 2)], 16, 24)
    )
    said = json.loads(json.dumps(loss.describe()))
    assert said["beta"]["warmup_steps"] == 3 and said["teacher"]["model"]["d_model"] == 24
    assert said["labels"] == {"smoothing": 0.0, "temperature": 1.0, "chunked": True}
    assert said["hidden"]["layers"] == [[1, 2]] and said["divergence"] == "forward_kl"
    assert DistillationLoss(Cached(teacher, batch.ids, FullLogits)).describe()["teacher"] == {"content": "a hash"}
