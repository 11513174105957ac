"""One tensor followed from allocation to free; folded work against all of it; loops of a user's own."""

import time

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import _get_current_dispatch_mode

from stlm_kit import UsageError
from stlm_kit.memory import measure_peak, measure_step, predict_peak, predict_step
from stlm_kit.memory import predict as prediction
from stlm_kit.memory import step_under_test as subjects
from stlm_kit.memory.predict import trace
from stlm_kit.memory.report import report_of
from stlm_kit.memory.steady_state import repeated, shares
from stlm_kit.memory.step_under_test import Subject, folded

MIB = 2**20


class Two(nn.Module):
    """A hidden layer of 1,024 by 1,024 and a head of 1,024 by 256, weights of 4 and 1 MiB."""

    def __init__(self):
        super().__init__()
        self.hidden, self.head = nn.Linear(1024, 1024, bias=False), nn.Linear(1024, 256, bias=False)

    def forward(self, x):
        return self.head(self.hidden(x).relu())


def build():
    model = Two()
    return {"model": model, "optimizer": torch.optim.AdamW(model.parameters(), foreach=True)}


def step(state):
    state["optimizer"].zero_grad()
    F.cross_entropy(state["model"](torch.zeros(2048, 1024)), torch.zeros(2048, dtype=torch.int64)).backward()
    state["optimizer"].step()


def test_one_tensor_from_allocation_to_free():
    recording = trace(build, step, semantics="cpu")
    life = [(e, s) for e, (a, s) in enumerate(recording.events) if a.operation == "relu" and e >= recording.started]
    (born, _), (dead, _) = life
    hidden = recording.events[born][0]
    assert hidden.shape == (2048, 1024) and hidden.n_bytes == 8 * MIB and hidden.module == "Two"
    assert (hidden.phase, hidden.category) == ("forward", "activations")
    assert recording.started < born < recording.forward_ended < dead < recording.backward_ended
    # It dies where relu's own gradient has been worked out of it.
    name, module, phase = recording.operations[recording.operation_of_event[dead]]
    assert (name, module, phase) == ("threshold_backward", "Two", "backward")


def test_the_parts_of_a_step():
    report = predict_step(build, step, semantics="cpu", vocab_size=256)
    parts = report.by_category
    assert parts["parameters"] == 5 and parts["optimizer"] == pytest.approx(10, abs=1e-4)
    assert parts["activations"] >= 16  # the batch and the hidden layer's output after relu
    assert sum(parts.values()) == pytest.approx(report.peak_allocated_mib)
    assert sum(report.by_module.values()) == pytest.approx(report.peak_allocated_mib)
    assert sum(row["mib"] for row in report.alive_at_peak) == pytest.approx(report.peak_allocated_mib)
    assert report.after_backward_mib == pytest.approx(20, abs=0.01)  # weights, gradients, two moments
    assert {(row["operation"], row["module"]) for row in report.alive_at_peak} >= {("relu", "Two"), ("zeros", "inputs")}
    line = report.timeline
    assert len(line.operations) == len(line.modules) == len(line.phases) == len(line.total())
    assert max(line.total()) <= predict_step(build, step, semantics="cpu", span="step").peak_allocated_mib + 1e-9
    assert [phase for phase, last in zip(line.phases, [None, *line.phases], strict=False) if phase != last] == [
        "forward", "backward", "update",
    ]  # fmt: skip


def test_a_loop_of_ones_own_is_predicted_as_it_is_measured():
    predicted, measured = predict_step(build, step, semantics="cpu"), measure_step(build, step, repeats=3)
    assert predicted.peak_allocated_mib == pytest.approx(measured.peak_allocated_mib, rel=1e-4)
    assert 0 < measured.step_s["least"] <= measured.step_s["median"] <= measured.step_s["most"]


def test_outputs_kept_alive_cost_their_size_in_the_next_step():
    def keeping(state):
        state["optimizer"].zero_grad()
        state["out"] = state["model"](torch.zeros(2048, 1024))
        F.cross_entropy(state["out"], torch.zeros(2048, dtype=torch.int64)).backward()
        state["optimizer"].step()

    kept, dropped = (predict_step(build, loop, semantics="cpu") for loop in (keeping, step))
    assert kept.after_backward_mib - dropped.after_backward_mib == pytest.approx(2, abs=1e-3)


def test_a_number_read_back_and_a_mask_do_not_stop_it():
    def looking(state):
        out = state["model"](torch.zeros(2048, 1024))
        loss = out[torch.zeros(2048) > 0].square().mean()
        loss.backward()
        assert loss.item() == 1

    whole, half = (predict_step(build, looking, valid_fraction=share, semantics="cpu") for share in (1.0, 0.5))
    assert whole.after_forward_mib - half.after_forward_mib >= 1  # half of the copied rows, 256 numbers each


def test_chunks_that_are_left_out_change_nothing(monkeypatch):
    sizes = "laptop-llama", "bf16+chunked+checkpoint", 40, 128  # five chunks of 1,024 positions
    few = predict_peak(*sizes)
    monkeypatch.setattr(subjects, "few", lambda n_positions, rows: range(0, n_positions, rows))
    prediction.trace_subject.cache_clear()
    every = predict_peak(*sizes)
    prediction.trace_subject.cache_clear()
    assert len(every.timeline.operations) > len(few.timeline.operations)
    assert few.by_category == every.by_category and few.peak_allocated_mib == every.peak_allocated_mib
    assert (few.after_forward_mib, few.after_backward_mib) == (every.after_forward_mib, every.after_backward_mib)


@pytest.mark.parametrize("semantics", ["cuda", "cpu"])
def test_a_prediction_leaves_the_values_of_eight_bit_codes_alone(semantics):
    """torchao computes them once in a process: on fake tensors they would come out wrong, for later training too."""
    from torchao.optim.subclass_8bit import get_qmap_signed

    get_qmap_signed.cache_clear()
    prediction.trace_subject.cache_clear()
    predict_peak("laptop-llama", "fp32+8bit", 2, 32, semantics=semantics)
    assert len(set(get_qmap_signed())) == 256


@pytest.mark.parametrize("recipe", ["fp32+eager+study", "bf16+checkpoint", "fp16+foreach"])
def test_steps_replayed_are_steps_traced(recipe):
    subject = Subject.of("laptop-llama", recipe, 4, 64, 0.5)
    with folded(subject.recipe, "cuda"):
        two, five = (trace(subject.build, subject.step, semantics="cuda", steps=n, valid_fraction=0.5) for n in (2, 5))
    longer, starts = repeated(two, [{}] * 3)
    assert len(starts) == 3
    # Births in order; among deaths at one moment autocast's cache lets go of its copies in any order.
    assert [a.n_bytes for a in longer.allocations()] == [a.n_bytes for a in five.allocations()]
    replayed, traced = (report_of(recording, "step", "cpu") for recording in (longer, five))
    for name in ("peak_allocated_mib", "after_forward_mib", "after_backward_mib", "by_category", "by_module"):
        assert getattr(replayed, name) == getattr(traced, name), name


def test_sizes_at_another_share_are_those_traced_there():
    """Steps replayed at one share of real targets, from traces at two others."""
    sizes = "memory-study", "bf16+eager+study", 8, 255
    spread = predict_peak(*sizes, 0.4, 1e-9)
    even = predict_peak(*sizes, 0.4)
    assert spread.peak_allocated_mib == pytest.approx(even.peak_allocated_mib, rel=1e-3)
    assert spread.after_forward_mib == pytest.approx(even.after_forward_mib, rel=1e-3)


def test_shares_are_those_of_a_normal_distribution():
    found = shares(0.3, 0.05, 16)
    assert sum(found) / 16 == pytest.approx(0.3)
    assert (sum((share - 0.3) ** 2 for share in found) / 16) ** 0.5 == pytest.approx(0.05, rel=0.05)
    assert len(set(found)) == 16 and found != sorted(found)


@pytest.mark.parametrize(
    "recipe", ["fp32+eager+study", "bf16+flash+chunked+checkpoint", "8bit", "in-backward+chunked+selective+eager"]
)
def test_a_batch_of_thousands_is_predicted_in_seconds(recipe):
    """Seconds of the processor, since others may use it too."""
    predict_peak("laptop-gpt2", recipe, 1, 8)  # imports
    started = time.process_time()
    report = predict_peak("memory-study", recipe, 4096, 255)
    assert time.process_time() - started <= 3
    assert report.peak_allocated_mib > 10_000


def test_it_fits_or_not():
    report = predict_peak("laptop-gpt2", "bf16", 2, 16)
    assert report.fits(report.peak_reserved_mib) and not report.fits(report.peak_reserved_mib, context_mib=1)
    with pytest.raises(UsageError, match="limit_mib"):
        report.fits(0)


def test_a_report_is_plain_values():
    import json

    report = predict_peak("laptop-gpt2", "bf16", 2, 16)
    row = json.loads(report.to_json(timeline=True))
    assert row["peak_allocated_mib"] == report.peak_allocated_mib and row["timeline"]["operations"]
    assert "timeline" not in json.loads(report.to_json())
    assert report.assumptions and all(sentence.endswith(".") for sentence in report.assumptions)


def test_what_cannot_be_measured_is_said():
    with pytest.raises(UsageError, match="not on 'mps'"):
        measure_step(build, step, device="mps")
    with pytest.raises(Exception, match="no backward pass"):
        measure_step(build, lambda state: None, repeats=0)
    with pytest.raises(UsageError, match="tf32"):
        measure_peak("laptop-gpt2", "tf32", 1, 8)
    if not torch.cuda.is_available():
        with pytest.raises(Exception, match="no CUDA GPU"):
            measure_peak("laptop-gpt2", "fp32", 1, 8, device="cuda")


def refuses_to_be_watched(x):
    """As flex_attention does, for which torch has no rule under a dispatch mode."""
    if _get_current_dispatch_mode():
        raise NotImplementedError("There was no rule registered for HigherOrderOperator flex_attention.")
    return x.relu()


def test_a_step_that_cannot_be_watched_is_measured_without_its_parts():
    def unwatched(state):
        refuses_to_be_watched(state["model"](torch.zeros(2048, 1024))).sum().backward()

    report = measure_step(build, unwatched, repeats=1)
    assert report.peak_allocated_mib > report.after_backward_mib > 10  # weights and gradients
    assert report.step_s["median"] > 0
    assert report.by_category == {} and report.alive_at_peak == [] and report.peak_phase == "unknown"
    assert len(report.assumptions) == 1 and "cannot be watched" in report.assumptions[0]
    unasked = measure_step(build, step, repeats=0, parts=False)
    assert unasked.by_category == {} and "left out" in unasked.assumptions[0] and unasked.step_s is None
    assert measure_step(build, step, repeats=0).assumptions == []


def test_a_compiled_step_is_watched_as_written_and_stays_compiled():
    """torch 2.13 refuses to compile with fullgraph=True while a step is watched, and would refuse ever after."""
    function = torch.compile(lambda x: x.relu() * 2, fullgraph=True, backend="eager")

    def compiled(state):
        function(state["model"](torch.zeros(2048, 1024))).sum().backward()

    report = measure_step(build, compiled, repeats=1)
    assert report.assumptions == [] and report.by_category["parameters"] == 5
    assert (function(torch.ones(8, 8)) == 2).all()
