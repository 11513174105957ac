"""Operations of a training step, held to products counted by hand."""

import pytest
import torch
from torch import nn

from stlm_kit import UsageError
from stlm_kit.memory.devices import measured_tflops, peak_tflops
from stlm_kit.memory.operations import count_operations, step_operations
from stlm_kit.memory.step_under_test import Subject
from stlm_kit.presets import preset

LAYERS, HEADS, WIDTH, FEED_FORWARD, VOCAB = 2, 4, 32, 80, 100
TINY = preset(
    "memory-study", n_layers=LAYERS, n_heads=HEADS, d_model=WIDTH, d_ff=FEED_FORWARD, vocab_size=VOCAB, dropout=0.0
)
ROWS, LENGTH = 3, 24


def matmul(m: int, n: int, k: int) -> int:
    """A matrix of m x k by one of k x n: a multiplication and an addition for each of m * n * k."""
    return 2 * m * n * k


def by_hand(positions: int = ROWS * LENGTH) -> dict[str, int]:
    """Each product of the tiny decoder's forward pass over three rows, which are two layers and a head."""
    return {
        "projections": LAYERS * 4 * matmul(positions, WIDTH, WIDTH),  # queries, keys, values, output
        "up": LAYERS * matmul(positions, FEED_FORWARD, WIDTH),
        "down": LAYERS * matmul(positions, WIDTH, FEED_FORWARD),
        "scores": LAYERS * ROWS * HEADS * 2 * matmul(LENGTH, LENGTH, WIDTH // HEADS),  # q by k, weights by v
        "head": matmul(positions, VOCAB, WIDTH),
    }


def test_each_product_is_counted_once_forward_and_twice_backward():
    counted = step_operations(TINY, "fp32+eager", ROWS, LENGTH)
    assert counted.forward == sum(by_hand().values())
    assert counted.backward == 2 * counted.forward  # by the one factor and by the other
    assert counted.recomputed == 0 and counted.own == counted.spent == 3 * counted.forward


def test_a_fused_kernel_computes_its_scores_again():
    products = by_hand()
    for recipe in ("fp32", "bf16", "bf16+flash", "bf16+flex"):
        counted = step_operations(TINY, recipe, ROWS, LENGTH)
        assert counted.forward == sum(products.values())
        assert counted.backward == 2 * counted.forward + products["scores"] // 2
        assert counted.recomputed == 0


# What is recomputed ends with the last result that the backward pass needs, the input of `down`; with dropout, its
# output. Selective checkpointing keeps the results of matrix products and of fused kernels, but not eager's scores.
@pytest.mark.parametrize(
    ("recipe", "dropout", "recomputed"),
    [
        ("fp32+eager+checkpoint", 0.0, ("projections", "scores", "up")),
        ("fp32+eager+checkpoint", 0.1, ("projections", "scores", "up", "down")),
        ("fp32+eager+tiled", 0.0, ("projections", "scores", "up")),
        ("fp32+eager+selective", 0.0, ("scores",)),
        ("bf16+chunked+checkpoint", 0.0, ("projections", "scores", "up")),
        ("bf16+selective", 0.0, ()),
        ("bf16+flash+selective", 0.0, ()),
    ],
)
def test_what_checkpointing_computes_again(recipe, dropout, recomputed):
    config, products = TINY.model_copy(update={"dropout": dropout}), by_hand()
    counted = step_operations(config, recipe, ROWS, LENGTH)
    assert counted.recomputed == sum(products[name] for name in recomputed)
    plain = step_operations(config, "+".join(recipe.split("+")[:2]).removesuffix("+selective"), ROWS, LENGTH)
    assert counted.own == plain.own == counted.spent - counted.recomputed


@pytest.mark.parametrize("recipe", ["fp32+chunked", "bf16+chunked+valid", "fp32+study", "fp32+8bit", "fp16+foreach"])
def test_chunks_copies_and_optimizers_change_nothing(recipe):
    plain = "+".join(part for part in recipe.split("+") if part in ("fp32", "bf16", "fp16", "valid"))
    assert step_operations(TINY, recipe, ROWS, LENGTH, 0.5) == step_operations(TINY, plain, ROWS, LENGTH, 0.5)


@pytest.mark.parametrize("recipe", ["fp32+eager+tiled", "bf16+chunked+valid+checkpoint", "fp32+in-backward+8bit"])
def test_a_whole_step_of_the_kit_counts_the_same(recipe):
    subject = Subject.of(TINY, recipe, 8, LENGTH, 0.25)
    counted = step_operations(TINY, recipe, 8, LENGTH, 0.25)
    assert count_operations(subject.build, subject.step, valid_fraction=0.25) == counted.spent


def test_positions_without_a_target_need_no_head():
    every, valid = (step_operations(TINY, recipe, 8, LENGTH, 0.25) for recipe in ("fp32", "fp32+valid"))
    assert every.own - valid.own == 3 * (matmul(8 * LENGTH, VOCAB, WIDTH) - matmul(2 * LENGTH, VOCAB, WIDTH))
    assert every == step_operations(TINY, "fp32", 8, LENGTH, 1.0)


def test_micro_batches_and_rows_add_up():
    assert step_operations(TINY, "fp32", ROWS, LENGTH, 1.0, 4) == step_operations(TINY, "fp32", 4 * ROWS, LENGTH)


@pytest.mark.parametrize("recipe", ["fp32+eager", "fp32", "bf16+flash"])
def test_a_window_is_not_counted(recipe):
    config = TINY.model_copy(update={"window": 4})
    assert step_operations(config, recipe, ROWS, LENGTH) == step_operations(TINY, recipe, ROWS, LENGTH)


def test_a_loop_of_ones_own():
    """Two linear layers, the gradient by the input of the first left out; and a mask, true for a quarter."""

    def build():
        model = nn.Sequential(nn.Linear(16, 40), nn.GELU(), nn.Linear(40, 10))
        return {"model": model, "optimizer": torch.optim.AdamW(model.parameters(), fused=True)}

    def step(state):
        x = torch.zeros(48, 16)
        x = x[x[:, 0] > 0]
        state["model"](x).square().mean().backward()
        nn.utils.clip_grad_norm_(state["model"].parameters(), 1.0).item()
        state["optimizer"].step()

    for semantics in ("cuda", "cpu"):
        counted = count_operations(build, step, semantics=semantics, valid_fraction=0.25)
        assert counted == 2 * matmul(12, 40, 16) + 3 * matmul(12, 10, 40)


def test_attention_counts_on_the_cpu_as_on_cuda():
    def build():
        return nn.MultiheadAttention(16, 2, batch_first=True)

    def step(model):
        x = torch.zeros(4, 20, 16)
        model(x, x, x, need_weights=False)[0].sum().backward()

    assert count_operations(build, step, semantics="cpu") == count_operations(build, step, semantics="cuda")


def test_what_cannot_be():
    with pytest.raises(UsageError, match="semantics = 'gpu' will not do"):
        count_operations(dict, dict, semantics="gpu")
    with pytest.raises(UsageError, match="valid_fraction = 0 will not do"):
        count_operations(dict, dict, valid_fraction=0)
    with pytest.raises(UsageError, match="recipe part"):
        step_operations("memory-study", "fp33", 1, 32)


def test_peaks():
    assert peak_tflops("NVIDIA A100-SXM4-80GB MIG 2g.20gb", "bf16", 28) == pytest.approx(312 * 28 / 108)
    assert peak_tflops("NVIDIA H100 PCIe", "fp32") == 51.0
    assert peak_tflops("NVIDIA H200", "tf32") == peak_tflops("NVIDIA H100 80GB HBM3", "tf32")
    assert peak_tflops("Some other card", "bf16") is None
    assert measured_tflops("fp32", size=256) > 1e-4
    assert peak_tflops("Tesla T4", "fp16") == 65.0 and peak_tflops("Tesla T4", "bf16") is None
