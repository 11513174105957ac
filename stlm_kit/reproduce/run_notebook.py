"""The work of notebooks/run.ipynb for one run of a study: measure memory, train, write one result row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stlm_kit.reproduce.results import FIRST
from stlm_kit.reproduce.rows import has_row, is_out_of_memory, numbers_of, record_row, run_folder
from stlm_kit.slices import mig_profile

if TYPE_CHECKING:
    from stlm_kit.train_from_text import RunSettings
    from stlm_kit.training.loop import TrainResult


def train_and_record(settings: RunSettings, measure_memory: bool = False, progress: bool = False) -> TrainResult | None:
    """Train in the run's folder and record its result row. An interrupted run resumes. Without a folder, train in
    memory.

    measure_memory: before training, measure and predict the memory of a step, on a device that supports it. If memory
    runs out, that is the result: the row says so, and None is returned. A run that was finished before keeps its row.
    """
    from stlm_kit.model import count_parameters
    from stlm_kit.train_from_text import train_from_text

    folder = run_folder()
    try:
        memory = measured_memory(settings) if measure_memory and not has_row(folder) else {}
        trained = train_from_text(settings, folder, progress=progress)
    except (MemoryError, RuntimeError) as error:  # torch's own out-of-memory error is a RuntimeError
        if not is_out_of_memory(error):
            raise
        record_row(status="out_of_memory", said=str(error).strip().splitlines()[0][:300])
        return None
    if has_row(folder):
        return trained
    record_row(
        model_parameters=count_parameters(trained.model),
        **numbers_of(trained.result),
        first_losses=trained.losses[:FIRST],
        **loss_curve(trained.losses),
        **parts_of_loss(trained.metrics),
        **held_out_curve(trained),
        **memory,
        **device_facts(trained.result["device"]),
    )
    return trained


CURVE = 25  # how many points of its training loss a row keeps


def loss_curve(losses: list[float]) -> dict[str, Any]:
    """A training's loss in at most CURVE points: {"curve_steps": n, "curve": the mean loss of each n steps in a row}.

    Steps at the end that do not fill a point are left out.
    """
    each = max(1, -(-len(losses) // CURVE))
    means = [sum(losses[at : at + each]) / each for at in range(0, len(losses) - each + 1, each)]
    return {"curve_steps": each, "curve": [round(mean, 4) for mean in means]}


def parts_of_loss(metrics: list[dict[str, Any]]) -> dict[str, list[float]]:
    """The curves of what a distillation loss is made of, in nats a token, where the training logged it."""
    parts = [name for name in ("cross_entropy", "divergence") if metrics and name in metrics[0]]
    return {f"curve_of_{name}": loss_curve([row[name] for row in metrics])["curve"] for name in parts}


def held_out_curve(trained: TrainResult) -> dict[str, list]:
    """{"held_out": [[step, bits per byte], ...]} of a training that evaluated more than once."""
    found = [[step, round(scores["bits_per_byte"], 5)] for step, scores in trained.validation]
    return {"held_out": found} if len(found) > 1 else {}


TIMED_STEPS = 20  # with fewer steps, other work on the machine dominates the timing


def measured_memory(settings: RunSettings) -> dict[str, Any]:
    """The memory in MiB and the seconds of one step at the run's share of real targets, measured here and predicted.

    The span is that of the memory study: forward and backward, before the update. {} on a device that cannot be
    measured. Where the recipe's precision is slow on this processor, no step is timed, and "slowdown" gives the factor
    of its matrix products.
    """
    from stlm_kit.memory import measure_peak, predict_peak
    from stlm_kit.memory.devices import device_here
    from stlm_kit.processor import is_slow, slowdown
    from stlm_kit.run_teacher import empty_loss_of_run
    from stlm_kit.saved_models import pick_device
    from stlm_kit.train_from_text import prepare, valid_fraction
    from stlm_kit.training.recipe import Recipe

    kind = pick_device(settings.device).type
    if kind not in ("cpu", "cuda"):
        return {}
    _, tokens, config = prepare(settings)
    share, _ = valid_fraction(settings, tokens["train"])
    step = (config, settings.recipe, settings.batch_size, settings.context_length, share)
    more = {"accumulation_steps": settings.accumulation_steps, "trainable": settings.trainable}
    more["loss"] = empty_loss_of_run(settings.distillation, config)
    precision = Recipe.named(settings.recipe).precision
    slow = is_slow(precision, kind)
    found = measure_peak(*step, device=settings.device, repeats=0 if slow else TIMED_STEPS, **more)
    foretold = predict_peak(*step, semantics=kind, device=device_here() if kind == "cuda" else None, **more)
    return {
        "valid_fraction": round(share, 4),
        "peak_allocated_mib": round(found.peak_allocated_mib, 2),
        "predicted_mib": round(foretold.peak_allocated_mib, 2),
        "after_forward_mib": round(found.after_forward_mib, 2),
        "after_backward_mib": round(found.after_backward_mib, 2),
        **({"slowdown": round(slowdown(precision), 2)} if slow else _step_seconds(found.step_s)),
    }


def _step_seconds(found: dict[str, float]) -> dict[str, float]:
    return {f"step_s_{name}": round(found[name], 5) for name in ("median", "least", "most")}


def device_facts(device: str) -> dict[str, Any]:
    """The facts about the device in a row, so that only times from equal conditions are compared.

    On CUDA: name, MIG profile, multiprocessors, driver, CUDA, flash-attn, and the run's highest peak in MiB.
    """
    import torch

    from stlm_kit.provenance import driver, versions

    if not device.startswith("cuda"):
        return {"device": device, "threads": torch.get_num_threads()}
    properties = torch.cuda.get_device_properties(device)
    return {
        "device": properties.name,
        "mig_profile": mig_profile(properties.name),
        "multiprocessors": properties.multi_processor_count,
        "device_mib": properties.total_memory // 2**20,
        "driver": driver(),
        "cuda": torch.version.cuda,
        "flash_attn": versions().get("flash-attn"),
        "highest_allocated_mib": torch.cuda.max_memory_allocated(device) / 2**20,
    }
