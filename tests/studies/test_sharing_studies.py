"""The studies with searched arms: what the arms hold equal, and that seeds run at the rate which the search found."""

import pytest
import torch

from stlm_kit.ledger.answers import computed
from stlm_kit.ledger.claims import find_claim, verdict
from stlm_kit.ledger.tuned_arms import tuned_arms
from stlm_kit.model import Decoder, count_parameters
from stlm_kit.options import settings_from
from stlm_kit.presets import preset
from stlm_kit.reproduce.study_file import load_study
from stlm_kit.reproduce.study_runs import run_parameters
from stlm_kit.studies.poster import sharing
from stlm_kit.train_from_text import run_settings

STUDIES = ("poster", "stlm")


def configs(study):
    """{arm: the config of its runs}."""
    found = {}
    for cell in load_study(study).cells("laptop").values():
        if "arm" in cell.labels:  # the others have no search
            settings = settings_from(run_parameters(cell.parameters, "laptop")["settings"])
            config = preset(settings.preset, **settings.overrides)
            same = (config, settings.steps, settings.train_documents, settings.distillation)
            assert found.setdefault(cell.labels["arm"], same) == same, "an arm is one model with one training"
    return found


def parameters(config):
    with torch.device("meta"):
        return count_parameters(Decoder(config))


@pytest.fixture(scope="module")
def sizes():
    return {study: {arm: parameters(config) for arm, (config, *_) in configs(study).items()} for study in STUDIES}


@pytest.mark.parametrize(
    ("study", "one", "other", "relative"),
    [
        ("poster", "all", "layers-1", 0),
        ("poster", "looped", "layers-3", 0),
        ("poster", "pairs", "layers-4", 0),
        ("poster", "feed-forward", "narrow-48", 0),
        ("poster", "shared-narrow", "shared-factored", 0),
        ("poster", "shared-narrow-wide", "shared-factored-wide", 0),
        ("poster", "shared-narrow-wide", "all-index", 0.005),
        ("stlm", "shared", "narrow-48", 0),
        ("stlm", "shared-lora", "narrow-80", 0),
        ("stlm", "shared-lora", "shared-640", 0),
    ],
)
def test_arms_of_equal_parameters_have_them(sizes, study, one, other, relative):
    assert sizes[study][one] == pytest.approx(sizes[study][other], rel=relative)


def test_every_arm_is_searched_at_the_same_three_rates():
    for study in STUDIES:
        rates = {}
        for cell in load_study(study).cells("laptop").values():
            if "rate" in cell.labels:
                rates.setdefault(cell.labels["arm"], []).append(cell.parameters["learning_rate"])
        assert set(map(tuple, rates.values())) == {(2e-3, 4e-3, 8e-3)}


@pytest.mark.parametrize("study", STUDIES)
def test_seeds_run_at_the_rate_that_the_search_found(study):
    arms = tuned_arms(study)
    seeds = [cell for cell in load_study(study).cells("laptop").values() if {"seed", "arm"} <= cell.labels.keys()]
    assert {cell.labels["arm"] for cell in seeds} == set(arms) == set(configs(study))
    for cell in seeds:
        assert cell.parameters["learning_rate"] == arms[cell.labels["arm"]].rate, cell.labels


@pytest.mark.parametrize("study", STUDIES)
def test_every_arm_has_three_recorded_seeds_of_the_study_s_own_settings(study):
    found = configs(study)
    for name, arm in tuned_arms(study).items():
        assert sorted(arm.metrics) == [1, 2, 3]
        ran = run_settings(**arm.configuration)
        config = preset(ran.preset, **ran.overrides)
        assert (config, ran.steps, ran.train_documents, ran.distillation) == found[name]


@pytest.mark.parametrize(
    "claim_id",
    [
        "poster.trend.bottleneck_initial",
        "poster.trend.bottleneck_faster",
        "poster.trend.bottleneck_final",
        "poster.trend.rivals_larger",
        "poster.trend.rms_lighter",
        "poster.sharing.memory",
        "poster.trend.deep_limited",
        "stlm.ffn.lora_sharing",
    ],
)
def test_the_claims_on_sharing_are_answered(claim_id):
    claim, answer = find_claim(claim_id), computed(find_claim(claim_id))
    assert verdict(claim, answer["found"], answer["by"], answer["missing"]) != "open"
    assert answer["how"]


def test_without_rows_the_claims_stay_open(monkeypatch):
    monkeypatch.setattr(sharing, "tuned_arms", lambda study: {})
    for answer in (sharing.starts_lower, sharing.reaches_a_loss_sooner, sharing.ends_lower, sharing.small_beside_large):
        setting = find_claim("poster.trend.rivals_larger").setting | {
            "first_logged_steps": 50,
            "share_of_training": 0.6,
        }
        assert answer(setting).found is None
