"""Models that lie in a folder: trained runs and Hugging Face's layout, to use or to start from."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from stlm_kit.config import config_from
from stlm_kit.data.tokenizers import Tokenizer, load_tokenizer
from stlm_kit.errors import KitError, UsageError
from stlm_kit.model.huggingface import load_from_hf
from stlm_kit.model.kinds import build_model
from stlm_kit.model.language_model import LanguageModel
from stlm_kit.paths import file_sha256
from stlm_kit.training.checkpoint import FROZEN, MODEL, PICKLES, latest_checkpoint, load_state, load_weights
from stlm_kit.training.run_folder import read_json


def pick_device(name: str) -> torch.device:
    """The torch device of "cpu", "cuda" or "mps"; one sentence where the machine has none."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    kind = name.split(":")[0]
    if kind not in available:
        raise UsageError(f"There is no device named {name!r}; choose cpu, cuda or mps.")
    if not available[kind]:
        raise KitError(f"This machine offers no {kind} device to torch; use --device cpu.")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"There is no device named {name!r}; choose cpu, cuda, cuda:N or mps.") from None
    if device.index and (kind != "cuda" or device.index >= torch.cuda.device_count()):
        raise KitError(f"This machine has no device {name}; they count from {kind}:0.")
    return device


@dataclass
class LoadedRun:
    """A trained model (in eval mode) with its tokenizer and the config.json it was trained under."""

    model: LanguageModel
    tokenizer: Tokenizer
    config: dict
    step: int


def load_run(run_dir: Path | str, device: str = "cpu") -> LoadedRun:
    """The model and tokenizer of a run directory that `stlm train` wrote, at its latest checkpoint.

    KitError where there is none, where it is damaged, or where the path is a pickle (refused, never opened).
    """
    folder = Path(run_dir)
    if folder.suffix in PICKLES and not folder.is_dir():
        raise KitError(f"{folder} is a pickle, which can run code when it is opened; give a run directory instead.")
    if not folder.exists():
        raise KitError(f"There is no run directory {folder}; check the path, or make one with `stlm train`.")
    if not folder.is_dir():
        raise KitError(f"{folder} is a file; give the run directory that `stlm train` wrote.")
    config = read_json(folder / "config.json")
    checkpoint = latest_checkpoint(folder / "checkpoint")
    if config is None or checkpoint is None:
        raise KitError(f"{folder} holds no trained run yet (no config.json or checkpoint); train it first.")
    state = load_state(checkpoint)
    try:
        model = build_model(config_from(config["model"]))
    except (AttributeError, KeyError, TypeError, UsageError) as error:
        raise KitError(
            f"{folder / 'config.json'} describes no model; restore it from a copy, or train the run again."
        ) from error
    load_weights(model, checkpoint)
    tokenizer = load_tokenizer(str(folder / "tokenizer"))
    return LoadedRun(model.to(pick_device(device)).eval(), tokenizer, config, state["step"])


def start_from(model: LanguageModel, place: Path | str) -> str:
    """Give `model` the weights of a run's folder or of one in Hugging Face's layout; gives their `weights_hash`.

    Raises KitError where there are none, or where they are another configuration's.
    """
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise KitError(f"There is no folder {folder} to start from; give a run's, or one in Hugging Face's layout.")
    if checkpoint := latest_checkpoint(folder / "checkpoint"):
        load_state(checkpoint)  # its checksums
        load_weights(model, checkpoint)
        return weights_hash(folder)
    theirs = load_from_hf(folder)
    try:
        model.load_state_dict(theirs.state_dict())
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise KitError(f"The weights in {folder} are another configuration's: {reason}") from None
    return weights_hash(folder)


def weights_hash(folder: Path) -> str:
    """SHA-256 over the weights that `start_from` reads from a folder; of none where it holds none."""
    checkpoint = latest_checkpoint(folder / "checkpoint")
    if checkpoint:
        files = [checkpoint / MODEL, *filter(Path.is_file, [checkpoint / FROZEN])]
    else:
        files = sorted(folder.glob("*.safetensors"))
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()


def copy_state(run_dir: Path, folder: Path) -> None:
    """Let a run's folder begin with another run's last checkpoint and metrics, unless it has a checkpoint already."""
    if latest_checkpoint(folder / "checkpoint"):
        return
    part = folder / "checkpoint.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        shutil.copyfile(run_dir / "metrics.jsonl", folder / "metrics.jsonl")
        shutil.copytree(run_dir / "checkpoint", part)
    except OSError as error:
        raise KitError(f"Could not copy the state of {run_dir} to {folder}: {error}; free some space.") from error
    part.rename(folder / "checkpoint")  # last: a killed copy is begun again
