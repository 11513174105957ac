"""Recipes: names compose, contradictions are refused, exactness is stated."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stlm_kit import UsageError
from stlm_kit.training.recipe import Recipe


@pytest.mark.parametrize("name", Recipe.NAMES)
def test_every_name_gives_a_recipe_that_names_itself(name):
    recipe = Recipe.named(name)
    assert Recipe.named(recipe.name) == recipe


def test_names_compose_in_any_order():
    assert Recipe.named("bf16+eager") == Recipe.named("eager+bf16") == Recipe(precision="bf16", attention="eager")


def test_a_chunked_loss_is_exact_and_composes():
    assert Recipe.named("chunked").exactness == "exact"
    assert Recipe.named("bf16+chunked").name == "bf16+chunked"


def test_two_parts_that_disagree_are_refused():
    with pytest.raises(UsageError, match="'fp32' and 'bf16' at once"):
        Recipe.named("fp32+bf16")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("fp32+flash", "16 bits"),
        ("tf32+flash", "16 bits"),
        ("chunked+kept", "cannot keep them"),
        ("study+chunked", "at once"),
        ("study+valid", "leave out one"),
        ("fp16+in-backward", "use bf16"),
        ("8bit+foreach", "at once"),
    ],
)
def test_parts_that_exclude_each_other_are_refused_with_a_sentence(name, sentence):
    with pytest.raises(UsageError, match=sentence):
        Recipe.named(name)


def test_flash_computes_in_bf16_where_nothing_is_said():
    assert Recipe.named("flash").name == "bf16+flash" and Recipe.named("fp16+flash").precision == "fp16"


@given(st.sets(st.sampled_from(sorted(Recipe.NAMES)), min_size=1, max_size=5))
def test_any_recipe_that_can_be_named_is_named_back(parts):
    try:
        recipe = Recipe.named("+".join(sorted(parts)))
    except UsageError:
        return
    assert Recipe.named(recipe.name) == recipe


def test_which_devices_a_recipe_suits():
    assert "NVIDIA" in Recipe.named("tf32").unsuitable("mps") and Recipe.named("tf32").unsuitable("cuda") is None
    assert "use bf16" in Recipe.named("fp16").unsuitable("cpu") and Recipe.named("fp16").unsuitable("mps") is None
    assert all(Recipe.named(part).unsuitable("cuda") is None for part in Recipe.NAMES)


def test_an_unknown_part_names_the_near_ones():
    with pytest.raises(UsageError, match="Did you mean 'bf16'"):
        Recipe.named("bf61")


def test_exactness():
    assert Recipe.named("eager").exactness == "exact" and Recipe.named("eager").bound == 0
    assert Recipe.named("bf16").exactness == "approximate" and Recipe.named("bf16").bound == 2**-7


def test_bf16_rounds_products_and_keeps_parameters():
    linear = torch.nn.Linear(4, 4)
    with Recipe.named("bf16").autocast("cpu"):
        assert linear(torch.ones(1, 4)).dtype == torch.bfloat16
    with Recipe.named("fp32").autocast("cpu"):
        assert linear(torch.ones(1, 4)).dtype == torch.float32
    assert linear.weight.dtype == torch.float32
