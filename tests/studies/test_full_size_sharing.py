"""The runs of the poster and of STLM at the published size: planned without their text, and below 20 GB."""

import os

import pytest
import torch

from stlm_kit.memory.budget import find_budget
from stlm_kit.model import build_model, count_parameters
from stlm_kit.reproduce.cost import needed_of, work_of
from stlm_kit.reproduce.request import Request, plan
from stlm_kit.reproduce.study_file import load_study

ARMS = {
    "poster": (
        *("full-distilqwen3", "full-without-index", "full-without-bottleneck", "full-factored", "full-lora"),
        *("distilled-distilqwen3", "distilled-without-bottleneck"),
    ),
    "stlm": ("full-none", "full-shared", "full-shared-lora", "full-narrow-154", "full-narrow-218"),
}
# The others: make fuzz.
LARGEST = [("poster", "full-without-bottleneck"), ("poster", "distilled-without-bottleneck"), ("stlm", "full-none")]
CASES = [(study, arm) for study, arms in ARMS.items() for arm in arms] if os.environ.get("STLM_FUZZ") else LARGEST

pytestmark = pytest.mark.usefixtures("computing_node")  # no text, no tokenizer, no network


def parameters_of(study: str, arm: str, seed: int = 0) -> dict:
    return load_study(study).expand("mig20")[f"{arm}-seed-{seed}"]


@pytest.mark.parametrize("study", ARMS)
def test_each_arm_is_planned_at_three_seeds_and_differs_in_the_seed_alone(study):
    names = [f"{arm}-seed-{seed}" for arm in ARMS[study] for seed in (0, 1, 2)]
    assert list(load_study(study).expand("mig20")) == names
    for arm in ARMS[study]:
        first, *others = ({**parameters_of(study, arm, seed), "seed": None} for seed in (0, 1, 2))
        assert others == [first, first]


@pytest.mark.parametrize(("study", "arm"), CASES)
def test_each_is_predicted_to_fit_into_the_slice(study, arm):
    (run,) = plan(Request([study], "mig20", only=f"{arm}-seed-0"))
    work = work_of(run)
    assert work.valid_fraction is None  # the text is not here: each position counts as real, an upper bound
    assert 8_000 < needed_of(work.memory()) <= find_budget("mig-20gb").mib


def counted(study: str, arm: str) -> int:
    (run,) = plan(Request([study], "mig20", only=f"full-{arm}-seed-0"))
    with torch.device("meta"):
        return count_parameters(build_model(work_of(run).config))


def test_arms_that_are_compared_at_equal_parameters_have_them():
    assert counted("poster", "factored") == counted("poster", "distilqwen3")
    for plain, shared in (("narrow-154", "shared"), ("narrow-218", "shared-lora")):
        assert 1 <= counted("stlm", plain) / counted("stlm", shared) < 1.0005
    assert counted("stlm", "none") > 1.5 * counted("stlm", "shared")


def test_the_papers_settings_are_those_of_its_runs():
    settings, run = load_study("stlm").settings, parameters_of("stlm", "full-none")
    shared = settings.keys() & run.keys()
    assert {"batch_size", "accumulation_steps", "steps", "warmup_steps", "learning_rate", "weight_decay"} <= shared
    assert {name: run[name] for name in shared} == {name: settings[name] for name in shared}
    assert run["corpus"] == "simple-wikipedia"
