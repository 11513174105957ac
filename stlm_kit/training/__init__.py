"""Training: recipe, loss, step, schedules, loop, checkpoint. It does not import evaluation or studies."""

from stlm_kit.training.distillation import DistillationLoss
from stlm_kit.training.hidden_states import HiddenStates
from stlm_kit.training.label_loss import LabelLoss
from stlm_kit.training.loop import TrainResult, train
from stlm_kit.training.loss import LossValue
from stlm_kit.training.recipe import Recipe
from stlm_kit.training.schedules import Schedule
from stlm_kit.training.settings import TrainingSettings

__all__ = [
    "DistillationLoss",
    "HiddenStates",
    "LabelLoss",
    "LossValue",
    "Recipe",
    "Schedule",
    "TrainResult",
    "TrainingSettings",
    "train",
]
