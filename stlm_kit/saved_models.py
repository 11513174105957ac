"""Models in a folder, to use or to start training from: trained runs and Hugging Face's layout.

A model is named by its folder everywhere: `load_model` for `stlm generate`, `evaluate` and `export`, `start_from` for
`init_from`. A folder with a checkpoint is a run's; another folder with weights is in Hugging Face's layout.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stlm_kit.config import DecoderConfig, ModelConfig, config_from
from stlm_kit.data.tokenizers import Tokenizer, load_tokenizer
from stlm_kit.errors import KitError, UsageError
from stlm_kit.model.huggingface import load_from_hf
from stlm_kit.model.huggingface.files import INDEX
from stlm_kit.model.kinds import build_model
from stlm_kit.model.language_model import LanguageModel
from stlm_kit.paths import file_sha256
from stlm_kit.training.checkpoint import FROZEN, MODEL, PICKLES, latest_checkpoint, load_state, load_weights
from stlm_kit.training.run_folder import read_json


def pick_device(name: str) -> torch.device:
    """The torch device of "cpu", "cuda" or "mps".

    Raises UsageError for an unknown name, KitError where the machine has no such device.
    """
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
    """A model (in eval mode) with its tokenizer and the config.json of its training.

    For a folder in Hugging Face's layout, `config` is only {"model": ...}, and `step` is None.
    """

    model: LanguageModel
    tokenizer: Tokenizer
    config: dict
    step: int | None


def load_model(place: Path | str, device: str = "cpu") -> LoadedRun:
    """The model and tokenizer in a folder: a run of `stlm train` (its latest checkpoint), or Hugging Face's layout.

    The kit's exports have Hugging Face's layout. KitError for a missing folder, for one with neither (the sentence says
    what was expected), for a model that is damaged or that the kit cannot compute, and for one without tokenizer.json.
    Nothing is ever downloaded.
    """
    folder = _folder(place)
    if not is_hf(folder):
        return load_run(folder, device)
    model = load_from_hf(folder)
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise KitError(f"{folder} holds a model and no tokenizer.json to read text with; copy its tokenizer there.")
    tokenizer = load_tokenizer(path)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise KitError(
            f"The tokenizer in {folder} has {tokenizer.vocab_size:,} tokens and the model {model.config.vocab_size:,}; "
            "copy the tokenizer it was trained with there."
        )
    config = {"model": model.config.model_dump(mode="json")}
    return LoadedRun(model.to(pick_device(device)).eval(), tokenizer, config, None)


def load_run(run_dir: Path | str, device: str = "cpu") -> LoadedRun:
    """The model and tokenizer of a run directory of `stlm train`, at its latest checkpoint.

    KitError where there is none, where it is damaged, or where the path is a pickle (refused, never opened).
    """
    folder = _folder(run_dir)
    config = read_json(folder / "config.json")
    checkpoint = latest_checkpoint(folder / "checkpoint")
    if config is None or checkpoint is None:
        raise KitError(
            f"{folder} holds no trained run yet (config.json and checkpoint) and no model in Hugging Face's layout "
            "(config.json and model.safetensors or its shards); give a folder with one, or train it first."
        )
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


def is_hf(folder: Path) -> bool:
    """Whether a folder is read as Hugging Face's layout: no checkpoint of a run, but weights or a config.json.

    A damaged config.json beside weights counts, so that `load_from_hf` reports it.
    """
    if latest_checkpoint(folder / "checkpoint"):
        return False
    if any(folder.glob("*.safetensors")) or (folder / INDEX).exists() or any(folder.glob("*.bin")):
        return True
    try:
        return "model_type" in (read_json(folder / "config.json") or {})
    except KitError:  # damaged and of unknown origin
        return False


def _folder(place: Path | str) -> Path:
    """The folder that a model is named by. KitError where there is none."""
    folder = Path(place).expanduser()
    if folder.suffix in PICKLES and not folder.is_dir():
        raise KitError(f"{folder} is a pickle, which can run code when it is opened; give a run directory instead.")
    if not folder.exists():
        raise KitError(
            f"There is no run directory {folder}, nor a folder of that name in Hugging Face's layout; check the path, "
            "or make one with `stlm train`."
        )
    if not folder.is_dir():
        raise KitError(
            f"{folder} is a file; give the run directory that `stlm train` wrote, or the folder of a model in Hugging "
            "Face's layout."
        )
    return folder


def _computed(config: ModelConfig) -> dict[str, Any]:
    """What a configuration computes, without the fields that may differ when training starts from other weights."""
    fields = config.model_dump(exclude={"context_length", "dropout", "init_std", "init_residuals"})
    if isinstance(config, DecoderConfig):
        fields |= {"n_kv_heads": config.kv_heads, "layer_order": config.order}
        if config.shares_whole_blocks:  # the order says it all
            fields["sharing"] = "none"
    return fields


def start_from(model: LanguageModel, place: Path | str) -> str:
    """Load the weights of a run's folder or of one in Hugging Face's layout into `model`. Returns their `weights_hash`.

    Raises KitError where there are none, or where they belong to another configuration. For Hugging Face's layout this
    includes a config.json with which something else is computed (such as another base of rotary positions), because
    otherwise the difference would go unnoticed. For a run's folder you may change such settings.
    """
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise KitError(f"There is no folder {folder} to start from; give a run's, or one in Hugging Face's layout.")
    if checkpoint := latest_checkpoint(folder / "checkpoint"):
        load_state(checkpoint)  # checks its checksums
        load_weights(model, checkpoint)
        return weights_hash(folder)
    theirs = load_from_hf(folder)
    there, here = _computed(theirs.config), _computed(model.config)
    if differing := next((name for name in here if here[name] != there.get(name)), None):
        raise KitError(
            f"The weights in {folder} are another configuration's: {differing} is {there.get(differing)!r} there and "
            f"{here[differing]!r} here; set it to what it is there."
        )
    try:
        model.load_state_dict(theirs.state_dict())
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise KitError(f"The weights in {folder} are another configuration's: {reason}") from None
    return weights_hash(folder)


def weights_hash(folder: Path) -> str:
    """SHA-256 of the weights that `start_from` reads from a folder, or of nothing where it holds none."""
    checkpoint = latest_checkpoint(folder / "checkpoint")
    if checkpoint:
        files = [checkpoint / MODEL, *filter(Path.is_file, [checkpoint / FROZEN])]
    else:
        files = sorted(folder.glob("*.safetensors"))
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()


def copy_state(run_dir: Path, folder: Path) -> None:
    """Copy another run's last checkpoint and metrics into a run's folder, unless it has a checkpoint already.

    Raises KitError where they cannot be copied.
    """
    if latest_checkpoint(folder / "checkpoint"):
        return
    part = folder / "checkpoint.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        shutil.copyfile(run_dir / "metrics.jsonl", folder / "metrics.jsonl")
        shutil.copytree(run_dir / "checkpoint", part)
    except OSError as error:
        raise KitError(f"Could not copy the state of {run_dir} to {folder}: {error}; free some space.") from error
    part.rename(folder / "checkpoint")  # last, so that a killed copy begins again
