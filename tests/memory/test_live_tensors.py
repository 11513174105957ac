"""Every tensor of a predicted step, at every moment of it."""

import pytest

from stlm_kit.errors import UsageError
from stlm_kit.memory import predict_peak
from stlm_kit.memory.live_tensors import watch_step
from stlm_kit.presets import preset

SMALL = preset("laptop-gpt2", n_layers=2, d_model=32, d_ff=64, vocab_size=300, context_length=24)


@pytest.mark.parametrize(
    ("recipe", "more"),
    [
        ("fp32+eager+study", {"valid_fraction": 0.5}),
        ("bf16+flash+chunked", {"span": "step"}),
        ("fp32+sdpa+checkpoint", {"semantics": "cpu"}),
    ],
)
def test_it_is_the_prediction_and_at_each_operation_the_tensors_add_up_to_the_timeline(recipe, more):
    step = watch_step(SMALL, recipe, 4, 24, **more)
    predicted = predict_peak(SMALL, recipe, 4, 24, **more)
    assert step.report.to_dict(timeline=True) == predicted.to_dict(timeline=True)
    for operation, total in enumerate(step.report.timeline.total()):
        alive = step.alive_after(operation)
        assert sum(tensor["mib"] for tensor in alive) == pytest.approx(total)
        assert [tensor["mib"] for tensor in alive] == sorted((tensor["mib"] for tensor in alive), reverse=True)


def test_each_category_adds_up_too():
    step = watch_step(SMALL, "fp32+eager", 4, 24)
    for operation in range(0, len(step.report.timeline.operations), 7):
        sums = dict.fromkeys(step.report.timeline.mib, 0.0)
        for tensor in step.alive_after(operation):
            sums[tensor["category"]] += tensor["mib"]
        assert sums == pytest.approx({name: mib[operation] for name, mib in step.report.timeline.mib.items()})


def test_only_the_eager_step_has_score_matrices_and_what_lives_within_an_operation_is_seen():
    def scores(recipe):
        return [
            t for t in watch_step(SMALL, recipe, 4, 24).tensors() if t["shape"][-2:] == [24, 24] and len(t["shape"]) > 2
        ]

    assert len(scores("bf16+eager")) >= 2 * SMALL.n_layers and not scores("bf16+flash")
    step = watch_step(SMALL, "fp32+eager", 4, 24)
    peak = [(tuple(t["shape"]), t["operation"], t["module"]) for t in step.report.alive_at_peak]
    every = [(tuple(t["shape"]), t["operation"], t["module"]) for t in step.tensors()]
    assert set(peak) <= set(every) and len(every) > len(peak)


@pytest.mark.parametrize("operation", [-1, 10**6, 1.5, True, None])
def test_an_operation_that_the_step_lacks_is_told(operation):
    step = watch_step(SMALL, "fp32", 1, 8)
    with pytest.raises(UsageError, match=r"There is no operation .*; the step has those from 0 to \d+\."):
        step.alive_after(operation)


def test_it_refuses_what_a_prediction_refuses():
    with pytest.raises(UsageError, match="semantics = 'tpu'"):
        watch_step(SMALL, "fp32", 1, 8, semantics="tpu")
    with pytest.raises(UsageError, match="batch_size = 0"):
        watch_step(SMALL, "fp32", 0, 8)
