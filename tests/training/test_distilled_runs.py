"""Runs with a distillation loss: resumed exactly after a kill, saved and hashed, and their memory predicted."""

import json

import pytest
import torch

from stlm_kit import KitError, Schedule, UsageError, predict_peak, train
from stlm_kit.config import DecoderConfig
from stlm_kit.data.batches import Batch
from stlm_kit.memory import measure_peak
from stlm_kit.model.decoder import Decoder
from stlm_kit.training.checkpoint import latest_checkpoint, read_tensors
from stlm_kit.training.distillation import DistillationLoss
from stlm_kit.training.hidden_states import HiddenStates
from stlm_kit.training.label_loss import LabelLoss
from stlm_kit.training.teacher_outputs import FullLogits, Sampled, TopK


class Killed(BaseException):
    pass


@pytest.fixture
def one_thread():
    """Scratch memory of kernels grows with the threads; there is none of it to see with one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_loss(make_model):
    def make(teacher_seed=9, **settings):
        torch.manual_seed(5)
        hidden = HiddenStates([(1, 1), (2, 2)], 16, 24, "cosine")
        settings = {"alpha": 0.3, "beta": Schedule(start=0.7, warmup_steps=6), "hidden": hidden, **settings}
        return DistillationLoss(make_model(seed=teacher_seed, d_model=24), **settings)

    return make


@pytest.mark.parametrize("step", [2, 7])
def test_a_killed_run_goes_on_exactly(step, make_model, make_loss, batches, settings, tmp_path):
    def killed(seed, number):
        if number == step - 1:
            raise Killed
        return batches(seed, number)

    killed.description = batches.description
    unbroken, told = make_model(), make_loss()
    expected = train(unbroken, batches, settings, loss=told, progress=False)
    with pytest.raises(Killed):
        train(make_model(), killed, settings, loss=make_loss(), run_dir=tmp_path, progress=False)
    resumed, anew = make_model(), make_loss()
    result = train(resumed, batches, settings, loss=anew, run_dir=tmp_path, progress=False)
    for name in ("loss", "cross_entropy", "divergence", "hidden_distance", "beta"):
        assert [row[name] for row in result.metrics] == [row[name] for row in expected.metrics]
    assert [row["beta"] for row in result.metrics][:7] == pytest.approx([0.7 * min(n, 6) / 6 for n in range(1, 8)])
    for mine, theirs in zip(
        (*resumed.parameters(), *anew.parameters()), (*unbroken.parameters(), *told.parameters()), strict=True
    ):
        assert torch.equal(mine, theirs)
    start = make_loss()
    for mine, drawn in zip(anew.hidden.parameters(), start.hidden.parameters(), strict=True):
        assert not torch.equal(mine, drawn)
    assert all(
        torch.equal(mine, theirs)
        for mine, theirs in zip(anew.teacher.parameters(), start.teacher.parameters(), strict=True)
    )


def test_what_is_saved_hashed_and_compared(make_model, make_loss, batches, settings, tmp_path):
    train(make_model(), batches, settings, loss=make_loss(), run_dir=tmp_path, progress=False)
    kept = read_tensors(latest_checkpoint(tmp_path / "checkpoint") / "loss.safetensors")
    assert set(kept) == {"hidden.projections.0.weight", "hidden.projections.1.weight"}  # no teacher
    said = json.loads((tmp_path / "config.json").read_text())["loss"]
    assert said["name"] == "DistillationLoss" and len(said["frozen"]) == 64
    assert said["settings"]["alpha"] == 0.3 and said["settings"]["temperature"] == 1.0
    for other, difference in (
        (make_loss(teacher_seed=8), "loss.frozen"),
        (make_loss(temperature=2.0), "loss.settings.temperature"),
        (make_loss(beta=0.7), "loss.settings.beta"),
        (make_loss(divergence="reverse_kl"), "loss.settings.divergence"),
        (make_loss(labels=LabelLoss(0.1)), "loss.settings.labels.smoothing"),
    ):
        with pytest.raises(KitError, match=rf"another run \({difference} is"):
            train(make_model(), batches, settings, loss=other, run_dir=tmp_path, progress=False)


def test_a_student_learns_its_teachers_distribution(make_model, batches, settings):
    """From the teacher alone, without a label; the divergence goes to 0, and the cross-entropy does not."""
    teacher = make_model(seed=3, init_std=0.5, dropout=0.0)
    student = make_model(seed=4, dropout=0.0)
    told = settings.model_copy(update={"steps": 150, "learning_rate": 1e-2, "min_learning_rate": 1e-3})

    def one_batch(seed, number):
        given = batches(0, 0)
        return Batch(given.ids, torch.zeros_like(given.targets))  # labels that the loss must not follow

    one_batch.description = "one batch"
    rows = train(student, one_batch, told, loss=DistillationLoss(teacher), progress=False).metrics
    assert rows[-1]["divergence"] < 0.05 * rows[0]["divergence"] and rows[-1]["cross_entropy"] > 1
    assert rows[-1]["loss"] == pytest.approx(rows[-1]["divergence"], rel=1e-6)


def config(vocab_size, **changes) -> DecoderConfig:
    sizes = {"context_length": 32, "n_layers": 2, "d_model": 32, "n_heads": 2, "d_ff": 64, "tied_head": True}
    kinds = {"norm": "rmsnorm", "positions": "rotary", "feed_forward": "swiglu", "bias": False}
    return DecoderConfig(vocab_size=vocab_size, **sizes | kinds | changes)


class Made:
    """Outputs of the right shapes, in place of a cache."""

    def __init__(self, kind):
        self.kind = kind

    def outputs(self, batch):
        n, place = batch.ids.numel(), {"device": batch.ids.device}
        if self.kind == "full":
            return FullLogits(torch.zeros(n, 300, **place))
        ids = torch.arange(8, **place).expand(n, 8).contiguous()
        if self.kind == "sampled":
            return Sampled(ids, torch.full((n, 8), 0.125, **place), torch.zeros(n, **place))
        return TopK(ids, torch.full((n, 8), -3.0, **place), torch.full((n,), -0.5, **place))


def hidden(**settings):
    return HiddenStates([(1, 2)], 32, 48, **settings)


TEACHER = {"d_model": 48, "n_layers": 3}
LOSSES = {
    "forward": lambda: DistillationLoss(Decoder(config(300, **TEACHER))),
    "mixed": lambda: DistillationLoss(Decoder(config(300, **TEACHER)), alpha=0.5, beta=0.5, temperature=2.0),
    "reverse": lambda: DistillationLoss(Decoder(config(300, **TEACHER)), divergence="reverse_kl"),
    "jensen-shannon": lambda: DistillationLoss(Decoder(config(300, **TEACHER)), divergence="jensen_shannon"),
    "plain": lambda: DistillationLoss(Decoder(config(300, **TEACHER)), alpha=0.5, chunked=False),
    "untied": lambda: DistillationLoss(Decoder(config(300, tied_head=False, head_bias=True)), alpha=0.5),
    "cut": lambda: DistillationLoss(Decoder(config(320)), vocab_size=290),
    "hidden": lambda: DistillationLoss(Decoder(config(300, **TEACHER)), hidden=hidden()),
    "cosine": lambda: DistillationLoss(Decoder(config(300, **TEACHER)), alpha=0.5, hidden=hidden(distance="cosine")),
    "full": lambda: DistillationLoss(Made("full"), alpha=0.5),
    "top-k": lambda: DistillationLoss(Made("top-k"), alpha=0.5),
    "sampled": lambda: DistillationLoss(Made("sampled")),
    "smoothed": lambda: LabelLoss(smoothing=0.1, temperature=2.0),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_step_takes_the_memory_that_is_predicted(name, one_thread):
    number = list(LOSSES).index(name)
    recipe, rows = ("fp32", "fp32+checkpoint")[number % 2], (6, 9, 20)[number % 3]
    sizes = (config(300), recipe, rows, 32)
    measured = measure_peak(*sizes, repeats=0, loss=LOSSES[name]).peak_allocated_mib
    predicted = predict_peak(*sizes, semantics="cpu", loss=LOSSES[name]).peak_allocated_mib
    assert predicted == pytest.approx(measured, rel=0.005)


def test_two_vocabularies_of_logits_never_stand_in_memory_at_once():
    """On a GPU with GPT-2's vocabulary and 16,384 positions: 3.1 GiB of logits each in fp32."""
    teacher, student = (config(50257, d_model=width, context_length=512) for width in (192, 96))
    peak = {
        chunked: predict_peak(
            student,
            "bf16",
            32,
            512,
            loss=lambda: DistillationLoss(Decoder(teacher), alpha=0.5, chunked=chunked),  # noqa: B023
        ).peak_allocated_mib
        for chunked in (True, False)
    }
    both = 2 * 32 * 512 * 50257 * 4 / 2**20
    assert peak[False] > both > 3 * peak[True] and peak[False] > 10 * peak[True]


def test_a_teacher_counts_as_weights_without_gradients_or_state():
    plain = predict_peak(config(300), "fp32", 4, 32)
    taught = predict_peak(config(300), "fp32", 4, 32, loss=LOSSES["forward"])
    more = sum(p.numel() for p in Decoder(config(300, **TEACHER)).parameters()) * 4 / 2**20
    for category, extra in (("parameters", more), ("gradients", 0.0), ("optimizer", 0.0)):
        assert taught.by_category[category] - plain.by_category[category] == pytest.approx(extra, abs=0.02)


def test_streams_that_do_not_exist_are_one_sentence(make_model, batches, settings):
    loss = DistillationLoss(make_model(), hidden=HiddenStates([(1, 7)], 16, 16))
    with pytest.raises(UsageError, match="no stream after layer 7"):
        train(make_model(), batches, settings, loss=loss, progress=False)
