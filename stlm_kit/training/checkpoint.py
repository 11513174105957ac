"""Checkpoints in safetensors and JSON, without pickles. At every moment one complete checkpoint is on disk.

checkpoint/frozen.safetensors   the weights that training does not change, written once (where there are any)
checkpoint/step-120.part/       written and synced, then renamed to
checkpoint/step-120/            model.safetensors  optimizer.safetensors  state.json
                                and loss.safetensors where a loss has trained parameters
checkpoint/latest               the text "step-120", replaced after the rename; older ones are deleted last
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn

from stlm_kit.errors import KitError
from stlm_kit.paths import atomic_write, file_sha256, fsync_folder
from stlm_kit.training.trainable import changing_tensors, named_trainable, saved_tensors

MODEL, OPTIMIZER, OF_LOSS, FROZEN = (
    f"{name}.safetensors" for name in ("model", "optimizer", "loss", "../frozen")
)  # as seen from a checkpoint's folder
PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt"}


def save_checkpoint(
    folder: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict, loss: object = None
) -> Path:
    """Write `folder`/step-N so that a kill at any moment leaves the previous checkpoint or this one, complete.

    state: anything the loop needs to resume, as JSON. loss: of a module, the trained parts are saved and the frozen
    ones (a teacher) are not. Raises KitError on a full disk; the previous checkpoint stays. Returns the checkpoint's
    folder.
    """
    final, part = folder / f"step-{step}", folder / f"step-{step}.part"
    files = {MODEL: changing_tensors(model), OPTIMIZER: optimizer_tensors(model, optimizer, loss)}
    if isinstance(loss, nn.Module) and (of_loss := changing_tensors(loss)):
        files[OF_LOSS] = of_loss
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name, tensors in files.items():
            save_file(tensors, part / name)
            _sync(part / name)
        checksums = {name: file_sha256(part / name) for name in files}
        if still := saved_tensors(model).keys() - files[MODEL].keys():
            checksums[FROZEN] = _save_frozen(folder, {name: saved_tensors(model)[name] for name in sorted(still)})
        atomic_write(part / "state.json", json.dumps({"step": step, **state, "sha256": checksums}, indent=1))
        if final.exists():  # saved by a process that was killed before `latest`: the same numbers
            shutil.rmtree(part)
        else:
            part.rename(final)
            fsync_folder(folder)
        atomic_write(folder / "latest", final.name)
    except (OSError, SafetensorError, KitError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise KitError(
            f"Could not save the checkpoint of step {step} in {folder}: {error}; free some space and start the same "
            "command again, it goes on from the checkpoint before."
        ) from error
    for old in folder.glob("step-*"):
        if old != final:
            shutil.rmtree(old, ignore_errors=True)
    return final


def _save_frozen(folder: Path, tensors: dict[str, Tensor]) -> str:
    """Write the frozen weights unless they exist. Returns their SHA-256."""
    path = folder / "frozen.safetensors"
    if not path.is_file():
        atomic_write(path, save(tensors))
    return file_sha256(path)


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint to resume from, or None where the run has none yet."""
    folder = Path(folder)
    # A folder without .part is complete. After a kill between the two first renames there is one without `latest`.
    whole = {path.name: path for path in folder.glob("step-*") if re.fullmatch(r"step-\d+", path.name)}
    try:
        named = (folder / "latest").read_text(errors="replace").strip()
    except OSError:
        named = ""
    return whole.get(named) or max(whole.values(), key=lambda path: int(path.name[5:]), default=None)


def load_state(checkpoint: Path) -> dict:
    """The checkpoint's state.json, after a check of its files' checksums. KitError names a file that fails."""
    checkpoint = Path(checkpoint)
    try:
        state = json.loads((checkpoint / "state.json").read_text())
        checksums = dict(state["sha256"])
        state["step"] += 0  # raises unless it is a number
        if not checksums.keys() >= {MODEL, OPTIMIZER}:
            raise KeyError(MODEL)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(checkpoint / "state.json") from error
    for name, expected in checksums.items():
        path = checkpoint / name
        if not path.is_file() or file_sha256(path) != expected:
            raise _damaged(path)
    return state


def restore(checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer, loss: object = None) -> dict:
    """Copy a checkpoint into `model`, `optimizer` and a trained `loss` in place. Returns its state.

    KitError where names or shapes differ.
    """
    state = load_state(checkpoint)
    load_weights(model, checkpoint)
    if isinstance(loss, nn.Module) and (of_loss := changing_tensors(loss)):
        _copy_into(of_loss, read_tensors(checkpoint / OF_LOSS), checkpoint / OF_LOSS)
    moments = read_tensors(checkpoint / OPTIMIZER)
    steps_on_device = {
        parameter
        for group in optimizer.param_groups
        if group.get("fused") or group.get("capturable")  # their kernels read the step's number from the device
        for parameter in group["params"]
    }
    for name, parameter in named_trainable(model, loss):
        parts: dict[str, dict[str, Tensor]] = {}
        for key in moments:
            owner, part = key.rsplit("/", 1)
            if owner == name:
                moment, _, of = part.partition(".")
                stays = moment == "step" and parameter not in steps_on_device
                parts.setdefault(moment, {})[of] = moments[key] if stays else moments[key].to(parameter.device)
        optimizer.state[parameter] = {moment: _whole(moment, found) for moment, found in parts.items()}
    return state


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """Copy the weights of a checkpoint into `model`. KitError where names or shapes are those of another model.

    checkpoint: a checkpoint's folder, or one safetensors file that holds every weight.
    """
    checkpoint = Path(checkpoint)
    path = checkpoint / MODEL if checkpoint.is_dir() else checkpoint
    tensors = read_tensors(path)
    if checkpoint.is_dir() and (checkpoint / FROZEN).is_file():
        tensors = {**read_tensors(checkpoint / FROZEN), **tensors}
    _copy_into(saved_tensors(model), tensors, path)


def _copy_into(own: dict[str, Tensor], tensors: dict[str, Tensor], path: Path) -> None:
    """Copy tensors with the same names and shapes in place. KitError names the first that differs."""
    if tensors.keys() != own.keys() or any(tensors[name].shape != own[name].shape for name in own):
        odd = sorted(tensors.keys() ^ own.keys()) or [n for n in own if tensors[n].shape != own[n].shape]
        raise KitError(
            f"The weights in {path} belong to another configuration (they differ at {odd[0]!r}); "
            "load them with the preset they were trained with."
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. KitError where it is missing or damaged.

    A pickle is refused unread, because unpickling runs any code that it holds.
    """
    path = Path(path)
    if path.suffix in PICKLES:
        raise KitError(f"{path} is a pickle, which can run code when it is opened; convert it to safetensors first.")
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise KitError(f"There is no file {path}; check the run directory.") from error
    except (OSError, SafetensorError) as error:
        raise _damaged(path) from error


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, loss: object = None) -> dict[str, Tensor]:
    """The optimizer's state as "parameter name/moment name" -> tensor.

    A quantized moment has parts such as ".codes".
    """
    return {
        f"{name}/{moment}{part and '.'}{part}": torch.as_tensor(tensor).contiguous()
        for name, parameter in named_trainable(model, loss)
        for moment, value in optimizer.state.get(parameter, {}).items()
        for part, tensor in _parts(value).items()
    }


def _parts(moment: Tensor) -> dict[str, Tensor]:
    """The plain tensors of a moment: {"": itself}, or the parts of an 8-bit moment, which is a tensor subclass."""
    if not hasattr(moment, "codes"):
        return {"": moment}
    return {part: getattr(moment, part) for part in ("codes", "scale", "qmap")}


def _whole(moment: str, parts: dict[str, Tensor]) -> Tensor:
    """The inverse of `_parts`. The first moment has a sign; the second is a mean of squares."""
    if "" in parts:
        return parts[""]
    from torchao.optim.subclass_8bit import OptimState8bit

    return OptimState8bit(**parts, signed=moment == "exp_avg")


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _damaged(path: Path) -> KitError:
    return KitError(
        f"{path} is damaged or is no safetensors checkpoint; restore it from a copy, or choose a new run directory "
        "and train again."
    )
