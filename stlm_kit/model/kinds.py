"""From a config to its model: each kind of config is tied to one class of model."""

from __future__ import annotations

from collections.abc import Callable

from stlm_kit.config import CONFIGS, DecoderConfig, ModelConfig
from stlm_kit.errors import UsageError
from stlm_kit.model.decoder import Decoder
from stlm_kit.model.language_model import LanguageModel

MODELS: dict[type[ModelConfig], type[LanguageModel]] = {DecoderConfig: Decoder}


def model_kind(config: type[ModelConfig]) -> Callable[[type[LanguageModel]], type[LanguageModel]]:
    """Decorates the class of model that a config describes; from then on presets, runs and predictions know the kind.

    @model_kind(MyConfig)
    class MyModel(FeatureModel): ...
    """

    def register(model: type[LanguageModel]) -> type[LanguageModel]:
        CONFIGS[config.model_fields["kind"].default] = config
        MODELS[config] = model
        return model

    return register


def build_model(config: ModelConfig) -> LanguageModel:
    """A new model of this config, its weights drawn from torch's global generator. UsageError for what is no config."""
    if type(config) not in MODELS:
        raise UsageError(f"{config!r} will not do; give a model's config, such as preset('laptop-llama').")
    return MODELS[type(config)](config)
