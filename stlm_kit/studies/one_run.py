"""What notebooks/run.ipynb does for one run of a study: settings from its parameters, training, one result row."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from stlm_kit.studies.rows import is_out_of_memory, record_row, run_folder

if TYPE_CHECKING:
    from stlm_kit.pipeline import RunSettings
    from stlm_kit.training.loop import TrainResult

OF_THE_MODEL = ("window",)  # parameters that change the preset rather than the training; None leaves it as it is
OF_THE_STUDY = ("profile", "study", "run_name")


def settings_of(run: SimpleNamespace, **more: Any) -> RunSettings:
    """RunSettings from a notebook's validated parameters; `more` sets what the notebook has no parameter for.

    tokenizer "preset" means the preset's own; device "auto" the GPU where there is one. Raises UsageError for settings
    that do not fit together.
    """
    from stlm_kit.pipeline import run_settings

    values = {name: value for name, value in vars(run).items() if name not in OF_THE_STUDY}
    overrides = {name: values.pop(name) for name in OF_THE_MODEL if name in values}
    if values.get("tokenizer") == "preset":
        values["tokenizer"] = None
    if values.get("device") == "auto":
        values["device"] = best_device()
    overrides = {name: value for name, value in overrides.items() if value is not None}
    return run_settings(**values, overrides=overrides, **more)


def best_device() -> str:
    """ "cuda", "mps" or "cpu": the first that torch finds here."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def train_and_record(settings: RunSettings) -> TrainResult | None:
    """Train in the run's folder (an interrupted run goes on) and record its result row; in memory without a folder.

    Where memory ends, that is the result: the row says so, and None is returned.
    """
    from stlm_kit.model import count_parameters
    from stlm_kit.pipeline import train_from_text

    try:
        trained = train_from_text(settings, run_folder(), progress=False)
    except (MemoryError, RuntimeError) as error:  # torch's own out-of-memory is a RuntimeError
        if not is_out_of_memory(error):
            raise
        record_row(status="out_of_memory", said=str(error).strip().splitlines()[0][:300])
        return None
    result = trained.result
    record_row(
        model_parameters=count_parameters(trained.model),
        steps=result["steps"],
        tokens=result["tokens"],
        loss=result["loss"],
        perplexity=result["validation"]["perplexity"],
        bits_per_byte=result["validation"]["bits_per_byte"],
        tokens_per_second=result["tokens"] / result["seconds"] if result["seconds"] else 0.0,
        **device_facts(result["device"]),
    )
    return trained


def device_facts(device: str) -> dict[str, Any]:
    """What a row says of the device: its name and, on CUDA, multiprocessors, driver's CUDA and the peak in MiB."""
    import torch

    if not device.startswith("cuda"):
        return {"device": device, "threads": torch.get_num_threads()}
    properties = torch.cuda.get_device_properties(device)
    return {
        "device": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "device_mib": properties.total_memory // 2**20,
        "cuda": torch.version.cuda,
        "peak_allocated_mib": torch.cuda.max_memory_allocated(device) / 2**20,
    }
