"""The memory of a training step: predicted without a GPU, measured on any device. Sizes are in MiB (2^20 bytes)."""

from stlm_kit.memory.measure import measure_peak, measure_step
from stlm_kit.memory.predict import predict_peak, predict_step
from stlm_kit.memory.report import MemoryReport, Timeline

__all__ = [
    "MemoryReport",
    "Timeline",
    "measure_peak",
    "measure_step",
    "predict_peak",
    "predict_step",
]
