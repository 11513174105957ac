"""From a config to its model: each config class has one model class."""

from __future__ import annotations

from collections.abc import Callable

from stlm_kit.config import CONFIGS, DecoderConfig, ModelConfig
from stlm_kit.errors import UsageError
from stlm_kit.model.decoder import Decoder
from stlm_kit.model.language_model import LanguageModel

MODELS: dict[type[ModelConfig], type[LanguageModel]] = {DecoderConfig: Decoder}


def model_kind(config: type[ModelConfig]) -> Callable[[type[LanguageModel]], type[LanguageModel]]:
    """Decorate the model class that a config describes. From then on presets, runs and predictions know this kind.

    @model_kind(MyConfig)
    class MyModel(FeatureModel): ...
    """

    def register(model: type[LanguageModel]) -> type[LanguageModel]:
        CONFIGS[config.model_fields["kind"].default] = config
        MODELS[config] = model
        return model

    return register


def build_model(config: ModelConfig) -> LanguageModel:
    """A new model with this config, its weights drawn from torch's global generator. UsageError for another object."""
    if type(config) not in MODELS:
        raise UsageError(f"{config!r} will not do; give a model's config, such as preset('laptop-llama').")
    return MODELS[type(config)](config)
