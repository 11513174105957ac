"""What a GPU will meet, as far as a processor can tell: where a restored state lies, which switches are set."""

import os
import subprocess
import sys

import pytest
import torch

from stlm_kit import Recipe, TrainingSettings
from stlm_kit.errors import KitError
from stlm_kit.training import determinism, train
from stlm_kit.training.checkpoint import latest_checkpoint, restore
from stlm_kit.training.determinism import repeatable

CPU = torch.device("cpu")
MATMUL = torch.backends.cuda.matmul


@pytest.mark.parametrize("on_device", [True, False])
def test_a_restored_step_number_lies_where_the_optimizer_makes_its_own(on_device, tmp_path, batches, make_model):
    """Fused and capturable kernels read it from the device; the for-loop refuses it there."""
    settings = TrainingSettings(steps=2, batch_size=4, context_length=8, checkpoint_every=2)
    train(make_model(tied_head=False), batches, settings, run_dir=tmp_path)
    elsewhere = make_model(tied_head=False).to("meta")  # stands for a GPU: a device that is not the CPU
    optimizer = torch.optim.AdamW(elsewhere.parameters(), capturable=on_device)
    restore(latest_checkpoint(tmp_path / "checkpoint"), elsewhere, optimizer)
    states = list(optimizer.state.values())
    assert len(states) == len(list(elsewhere.parameters()))
    assert {str(state["step"].device) for state in states} == {"meta" if on_device else "cpu"}
    assert {str(state["exp_avg"].device) for state in states} == {"meta"}


def test_a_fused_optimizer_goes_on_as_if_never_saved(tmp_path, batches, make_model):
    """torch's own optimizer, given back its own state_dict, puts the step's number where `restore` does."""
    settings = TrainingSettings(steps=2, batch_size=4, context_length=8, checkpoint_every=2)
    train(make_model(), batches, settings, run_dir=tmp_path)
    optimizers = []
    for _ in range(2):
        model = make_model()
        optimizers.append((model, torch.optim.AdamW(model.parameters(), fused=True)))
        restore(latest_checkpoint(tmp_path / "checkpoint"), *optimizers[-1])
    (_, ours), (_, theirs) = optimizers
    theirs.load_state_dict(theirs.state_dict())
    for mine, its in zip(ours.state.values(), theirs.state.values(), strict=True):
        assert mine["step"].device == its["step"].device and torch.equal(mine["step"], its["step"])


def test_repeatable_sets_the_switches_and_puts_them_back(monkeypatch):
    monkeypatch.delenv(determinism.CUBLAS, raising=False)
    assert not torch.are_deterministic_algorithms_enabled()
    with repeatable(CPU):
        assert torch.are_deterministic_algorithms_enabled() and os.environ[determinism.CUBLAS] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with repeatable(CPU):
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        with repeatable(CPU, wanted=False):  # the user's own choice is left alone
            assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_choice_of_the_users_own_is_kept(monkeypatch):
    monkeypatch.setenv(determinism.CUBLAS, ":16:8")
    with repeatable(CPU):
        assert os.environ[determinism.CUBLAS] == ":16:8"


def test_a_product_that_is_refused_becomes_one_sentence(monkeypatch):
    def refused(self, other):
        raise RuntimeError("Deterministic behavior was enabled with either `torch.use_deterministic_algorithms(True)`")

    monkeypatch.setattr(torch.Tensor, "__matmul__", refused)
    with pytest.raises(KitError, match=r"CUBLAS_WORKSPACE_CONFIG=:4096:8 .*; restart Python"), repeatable(CPU):
        pass
    assert not torch.are_deterministic_algorithms_enabled()


def test_deterministic_training_leaves_torch_as_it_was(batches, make_model):
    seen = []
    settings = TrainingSettings(steps=2, batch_size=4, context_length=8, deterministic=True)
    train(
        make_model(), batches, settings, loggers=[lambda _: seen.append(torch.are_deterministic_algorithms_enabled())]
    )
    assert seen == [True, True] and not torch.are_deterministic_algorithms_enabled()


def readings() -> list:
    """What torch's two interfaces to tf32 say; reading the old one raises where the two disagree."""
    return [MATMUL.fp32_precision, MATMUL.allow_tf32, torch.get_float32_matmul_precision()]


@pytest.mark.parametrize("precision, within", [("tf32", ["tf32", True, "high"]), ("fp32", ["ieee", False, "highest"])])
@pytest.mark.parametrize("chosen", ["highest", "high", "medium"])
def test_both_interfaces_to_tf32_can_be_read_within_a_step_and_after_it(precision, within, chosen):
    """A user's set_float32_matmul_precision before it, and a library that reads allow_tf32 within it."""
    mkldnn = torch.backends.mkldnn.matmul
    at_first = MATMUL.fp32_precision, mkldnn.fp32_precision
    torch.set_float32_matmul_precision(chosen)
    try:
        before = [*readings(), mkldnn.fp32_precision]
        with Recipe.named(precision).matmul_precision():
            assert readings() == within
        assert [*readings(), mkldnn.fp32_precision] == before
    finally:
        torch.set_float32_matmul_precision("highest")
        MATMUL.fp32_precision, mkldnn.fp32_precision = at_first


def test_a_choice_by_the_new_interface_alone_is_kept():
    """In a process of its own: such a choice cannot be read by the old interface, nor wholly be taken back."""
    code = """
import torch
from stlm_kit import Recipe
matmul = torch.backends.cuda.matmul
matmul.fp32_precision = "tf32"
with Recipe.named("fp32").matmul_precision():
    assert matmul.allow_tf32 is False
assert matmul.fp32_precision == "tf32"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
