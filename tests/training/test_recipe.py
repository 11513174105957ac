"""Recipes: names compose, contradictions are refused, exactness is stated."""

import pytest
import torch

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
        Recipe.named("fp32+flash")


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
