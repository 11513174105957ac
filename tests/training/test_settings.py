"""Settings are checked before anything is computed, one sentence a mistake."""

import pytest

from stlm_kit import UsageError
from stlm_kit.train_from_text import run_settings
from stlm_kit.training.settings import TrainingSettings


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"stepz": 3}, "no setting named 'stepz'. Did you mean 'steps'"),
        ({"steps": 0}, "steps = 0 will not do"),
        ({"steps": "many"}, "steps = 'many' will not do"),
        ({"batch_size": 2.5}, "batch_size = 2.5 will not do"),
        ({"learning_rate": -1.0}, "learning_rate = -1.0 will not do"),
        ({"learning_rate": float("nan")}, "learning_rate = nan will not do"),
        ({"learning_rate": 1e-5, "min_learning_rate": 1e-4}, "lies above learning_rate"),
        ({"steps": 10, "warmup_steps": 10}, "leaves none of the 10 steps"),
        ({"dropout_end": 0.1}, "needs both dropout_start and dropout_end"),
        ({"dropout_steps": 5}, "dropout_steps = 5 has no dropout schedule"),
        ({"target_perplexity": 20.0}, "set eval_every as well"),
        ({"recipe": "bf17"}, "Did you mean 'bf16'"),
        ({"recipe": "in-backward", "accumulation_steps": 2}, "set accumulation_steps = 1"),
        ({"recipe": "chunked+study"}, "at once"),
        ({"packing": "loose"}, "packing = 'loose' will not do"),
    ],
)
def test_a_mistake_is_one_sentence(values, sentence):
    with pytest.raises(UsageError) as caught:
        run_settings(**values)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_schedule_ends_exactly_at_the_stated_minimum():
    settings = TrainingSettings(steps=137, learning_rate=7e-4, min_learning_rate=3e-5)
    assert settings.learning_rate_at(137) == 3e-5
    assert settings.learning_rate_at(settings.warmup) == 7e-4


def test_a_constant_schedule_stays():
    settings = TrainingSettings(steps=50, learning_rate=1e-3, schedule="constant", warmup_steps=0)
    assert {settings.learning_rate_at(step) for step in range(1, 51)} == {1e-3}


def test_the_dropout_schedule_of_super_tiny_language_models():
    settings = TrainingSettings(steps=25_000, dropout_start=0.0, dropout_end=0.1, dropout_steps=10_000)
    assert settings.dropout_at(1, constant=0.5) == 0.0
    assert settings.dropout_at(10_000, constant=0.5) == settings.dropout_at(25_000, constant=0.5) == 0.1
    assert TrainingSettings().dropout_at(1, constant=0.5) == 0.5
