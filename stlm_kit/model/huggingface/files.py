"""Tensors from a folder in Hugging Face's layout: from one safetensors file or from shards, all in one type."""

from __future__ import annotations

import json
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stlm_kit.errors import KitError

ONE, INDEX = "model.safetensors", "model.safetensors.index.json"
TYPES = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def read_settings(path: Path) -> dict[str, Any]:
    """The content of a JSON file that holds settings by name. KitError for any other content."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise KitError(f"{path.parent} holds no {path.name}, so it is no model in Hugging Face's layout.") from None
    except OSError as error:
        raise KitError(f"{path} cannot be read ({error.strerror}); check the folder.") from None
    except (ValueError, RecursionError) as error:
        raise KitError(f"{path} is not JSON ({error}); export the model again.") from None
    if not isinstance(content, dict):
        raise KitError(f"{path} holds no settings by name; export the model again.")
    return content


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a folder: from model.safetensors or, without it, from the shards that the index names.

    transformers searches in the same order. KitError for missing, damaged and pickled files, and for shards that do not
    hold what their index says.
    """
    if (folder / ONE).exists():
        return read_file(folder / ONE)
    if (folder / INDEX).exists():
        return _read_shards(folder)
    if shard := next(iter(sorted(folder.glob("model-*-of-*.safetensors"))), None):
        raise KitError(f"{folder} holds shards such as {shard.name} and no {INDEX}; copy the index there, too.")
    if pickled := next(iter(sorted(folder.glob("*.bin"))), None):
        raise KitError(
            f"{folder} holds only {pickled.name}, a pickle, which the kit never opens; save the model as safetensors."
        )
    raise KitError(f"{folder} holds no {ONE} and no {INDEX}; save the model as safetensors.")


def _read_shards(folder: Path) -> dict[str, Tensor]:
    place = read_settings(folder / INDEX).get("weight_map")
    if not isinstance(place, dict) or not place or not all(isinstance(name, str) for name in place.values()):
        raise KitError(f"{folder / INDEX} has no weight_map from tensors to files; save the model again.")
    shards = sorted(set(place.values()))
    for name in shards:
        if Path(name).name != name or Path(name).suffix != ".safetensors":
            raise KitError(f"{folder / INDEX} names {name!r}, which is no safetensors file beside it; save it again.")
    if missing := [name for name in shards if not (folder / name).is_file()]:
        raise KitError(f"{folder} lacks {' and '.join(missing)} of {len(shards)} files; copy all of them there.")
    tensors: dict[str, Tensor] = {}
    for name in shards:
        found = read_file(folder / name)
        listed = {tensor for tensor, file in place.items() if file == name}
        if odd := sorted(listed ^ found.keys()):
            where = f"is in {name} by {INDEX} and is not there" if odd[0] in listed else f"is in {name}, and {INDEX} "
            where += "" if odd[0] in listed else "does not say so"
            raise KitError(f"The tensor {odd[0]!r} of {folder} {where}; copy the model there again.")
        tensors |= found
    return tensors


def read_file(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. KitError where it is damaged or of another format."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise KitError(f"{path} is damaged or no safetensors file ({reason}); export the model again.") from None


def in_one_type(tensors: dict[str, Tensor], stated: Any) -> dict[str, Tensor]:
    """The same tensors in the one type that holds all of them exactly.

    A file of bf16 stays bf16; one of bf16 and fp32 becomes fp32. stated: the dtype in config.json, or None. KitError
    for numbers that are not plain floating point (fp8 and integers are quantized weights). KitError also for a stated
    type that would round the file's numbers, because transformers would round them silently.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in TYPES.values():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise KitError(
                f"The tensor {name!r} holds {kind}, so these weights are quantized or no weights; the kit reads "
                f"{', '.join(TYPES)}."
            )
    widest = reduce(torch.promote_types, (tensor.dtype for tensor in tensors.values()))
    if stated is not None:
        if not isinstance(stated, str) or stated.removeprefix("torch.") not in TYPES:
            raise KitError(f"The config.json has dtype = {stated!r}; the kit reads {', '.join(TYPES)}.")
        if torch.promote_types(widest, TYPES[stated.removeprefix("torch.")]) != TYPES[stated.removeprefix("torch.")]:
            held = str(widest).removeprefix("torch.")
            raise KitError(
                f"The config.json says dtype {stated} and the file holds {held}, which that would round; write {held} "
                "into the config.json, or save the weights rounded."
            )
    return {name: tensor.to(widest) for name, tensor in tensors.items()}
