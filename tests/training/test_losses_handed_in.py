"""Losses that the kit does not have: a function in five lines, and a module with a trained part and a teacher."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stlm_kit import KitError, LossValue, UsageError, predict_peak, train
from stlm_kit.data.batches import Batch
from stlm_kit.memory import measure_peak
from stlm_kit.training.checkpoint import latest_checkpoint, read_tensors
from stlm_kit.training.loss import NextTokenLoss
from stlm_kit.training.optimizer import build_optimizer
from stlm_kit.training.recipe import Recipe
from stlm_kit.training.settings import TrainingSettings
from stlm_kit.training.step import Step


def z_loss(model, batch, step):
    """Cross-entropy plus 1e-2 log(Z)^2, which keeps the logits small (PaLM, Chowdhery et al. 2022, section 5)."""
    logits = model(batch.ids).flatten(0, 1)
    z = 1e-2 * logits.logsumexp(-1).square().sum()
    nats = F.cross_entropy(logits, batch.targets.flatten(), reduction="sum")
    return LossValue(nats + z, batch.weight, {"z_loss": z.detach(), "number": step * batch.weight})


class Distances(nn.Module):
    """A student's features, projected, beside those of a frozen teacher: the projection is trained along."""

    def __init__(self, teacher, width=16):
        super().__init__()
        self.teacher = teacher.requires_grad_(False)
        self.projection = nn.Linear(width, width)
        self.noise = nn.Dropout(0.1)  # no parameters: neither trained nor frozen
        self.register_buffer("seen", torch.zeros(()))
        self.plain = NextTokenLoss(Recipe())

    def forward(self, model, batch, step):
        assert not self.teacher.training and self.noise.training
        self.seen += 1
        with torch.no_grad():
            theirs = self.teacher.features(batch.ids)
        distance = (self.projection(model.features(batch.ids)) - theirs).square().sum()
        nats, count, _ = self.plain(model, batch, step)
        return LossValue(nats + distance, count, {"distance": distance.detach()})


class Killed(BaseException):
    pass


class KilledAt:
    """A source of batches that ends the process when a step asks for its batch."""

    description = "random tokens"

    def __init__(self, batches, step):
        self.batches, self.step = batches, step

    def __call__(self, seed, number):
        if number == self.step - 1:
            raise Killed
        return self.batches(seed, number)


@pytest.fixture
def make_distances(make_model):
    def make():
        torch.manual_seed(5)
        return Distances(make_model(seed=9))

    return make


@pytest.mark.parametrize("step", [2, 6, 12])
@pytest.mark.parametrize("kind", ["z-loss", "distances"])
def test_a_killed_run_goes_on_exactly(kind, step, make_model, make_distances, batches, settings, tmp_path):
    def loss():
        return z_loss if kind == "z-loss" else make_distances()

    unbroken, told = make_model(), loss()
    expected = train(unbroken, batches, settings, loss=told, progress=False)
    with pytest.raises(Killed):
        train(make_model(), KilledAt(batches, step), settings, loss=loss(), run_dir=tmp_path, progress=False)
    resumed, anew = make_model(), loss()
    result = train(resumed, batches, settings, loss=anew, run_dir=tmp_path, progress=False)
    assert result.losses == expected.losses
    logged = "z_loss" if kind == "z-loss" else "distance"
    assert [row[logged] for row in result.metrics] == [row[logged] for row in expected.metrics]
    for mine, theirs in zip(resumed.parameters(), unbroken.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    if kind == "distances":
        assert torch.equal(anew.projection.weight, told.projection.weight) and anew.seen == told.seen == 12
        assert not torch.equal(anew.projection.weight, make_distances().projection.weight)


def test_what_is_saved_hashed_and_logged(make_model, make_distances, batches, settings, tmp_path):
    result = train(make_model(), batches, settings, loss=make_distances(), run_dir=tmp_path, progress=False)
    assert all(row["distance"] > 0 for row in result.metrics)
    kept = read_tensors(latest_checkpoint(tmp_path / "checkpoint") / "loss.safetensors")
    assert set(kept) == {"projection.weight", "projection.bias", "seen"}  # no teacher
    moments = read_tensors(latest_checkpoint(tmp_path / "checkpoint") / "optimizer.safetensors")
    assert "loss.projection.weight/exp_avg" in moments and not any("teacher" in name for name in moments)
    said = json.loads((tmp_path / "config.json").read_text())["loss"]
    assert said["name"] == "Distances" and len(said["frozen"]) == 64
    torch.manual_seed(1)
    with pytest.raises(KitError, match=r"another run \(loss.frozen is"):
        train(make_model(), batches, settings, loss=Distances(make_model(seed=8)), run_dir=tmp_path, progress=False)
    with pytest.raises(KitError, match="another run"):
        train(make_model(), batches, settings, loss=z_loss, run_dir=tmp_path, progress=False)


def test_a_log_that_would_hide_the_steps_own_figures_is_refused(make_model, batches, settings):
    def loss(model, batch, step):
        value = NextTokenLoss(Recipe())(model, batch, step)
        return value._replace(log={"tokens": 1.0})

    with pytest.raises(UsageError, match="'tokens'"):
        train(make_model(), batches, settings, loss=loss, progress=False)


def test_the_default_loss_and_the_same_loss_handed_in_are_one(make_model, batches, settings):
    ours = train(make_model(), batches, settings, progress=False)
    theirs = train(make_model(), batches, settings, loss=NextTokenLoss(Recipe()), progress=False)
    assert ours.losses == theirs.losses


@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_loss_that_counts_otherwise_is_one_mean_over_all_micro_batches(as_tensor, make_model, batches):
    """Even positions alone count: two micro-batches of unequal size give what their union gives."""

    def even(model, batch, step):
        targets = batch.targets.clone()
        targets[:, 1::2] = -100
        count = (targets != -100).sum()
        nats, _, _ = NextTokenLoss(Recipe())(model, Batch(batch.ids, targets), step)
        return LossValue(nats, count if as_tensor else int(count))

    whole = batches[0]
    parts = [Batch(whole.ids[:1], whole.targets[:1]), Batch(whole.ids[1:], whole.targets[1:])]
    found = []
    for given in ([whole], parts):
        model = make_model().double().eval()
        step = Step(model, build_optimizer(model, TrainingSettings()), Recipe(), clip=0.0, loss=even)
        found.append((float(step.compute(given)), [p.grad.clone() for p in model.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert torch.allclose(one, other, atol=1e-14)


def test_it_is_predicted_as_it_is_measured(make_model):
    config = make_model().config.model_copy(update={"vocab_size": 400, "dropout": 0.0})

    def loss():
        return Distances(type(make_model())(config))

    sizes = (config, "fp32+chunked", 16, 8)
    measured = measure_peak(*sizes, repeats=0, loss=loss).peak_allocated_mib
    predicted = predict_peak(*sizes, semantics="cpu", loss=loss)
    assert predicted.peak_allocated_mib == pytest.approx(measured, rel=0.01)
    plain = predict_peak(*sizes, semantics="cpu")
    assert predicted.by_category["parameters"] > 1.9 * plain.by_category["parameters"]  # the teacher's as well
    more = predicted.by_category["optimizer"] - plain.by_category["optimizer"]
    assert more == pytest.approx(2 * (16 * 16 + 16) * 4 / 2**20, rel=0.2)  # of the projection alone
