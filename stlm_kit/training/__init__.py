"""How a decoder learns: recipe, loss, step, schedules, loop, checkpoint. Knows nothing of evaluation or studies."""

from stlm_kit.training.loop import TrainResult, train
from stlm_kit.training.recipe import Recipe
from stlm_kit.training.settings import TrainingSettings

__all__ = ["Recipe", "TrainResult", "TrainingSettings", "train"]
