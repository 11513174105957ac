"""MIG slices: parts of a GPU, each a device of its own, as nvidia-smi and torch name them.

Names and identifiers follow NVIDIA's MIG user guide ("MIG Device Names", "CUDA Device Enumeration") and CUDA's
programming guide (CUDA_VISIBLE_DEVICES). `nvidia-smi -L` lists

    GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-5d5ba0d6-...)
      MIG 2g.20gb     Device  0: (UUID: MIG-41b35414-...)
      MIG 1c.3g.40gb  Device  1: (UUID: MIG-...)          one compute instance of several in a slice
      MIG 1g.10gb     Device  2: (UUID: MIG-GPU-5d5ba0d6-.../7/0)     by drivers before R470
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from stlm_kit.errors import KitError, UsageError, near
from stlm_kit.provenance import nvidia_smi

# 2g.20gb; 1c.2g.20gb: one compute instance of it; 1g.10gb+me, 1g.24gb+me.all, 2g.48gb-me, 1g.24gb+gfx: its engines
PROFILE = r"(?:\d+c\.)?\d+g\.\d+gb\S*"
GPU = re.compile(r"GPU (\d+): (.+?) \(UUID: ([^)]+)\)")
SLICE = re.compile(rf"\s+MIG ({PROFILE})\s+Device\s+\d+: \(UUID: ([^)]+)\)")
# the UUID of its GPU, then the numbers of the GPU and compute instance
OLD_UUID = re.compile(r"MIG-(GPU-[^/]+)/\d+/\d+")


@dataclass(frozen=True)
class Slice:
    """One MIG device: its name in torch, UUID, profile ("2g.20gb"; "" if unknown), and the number of its GPU."""

    name: str
    uuid: str
    profile: str
    gpu: int


def mig_profile(name: str) -> str | None:
    """The MIG profile in a device's name, such as "1g.20gb" in "NVIDIA A100-SXM4-80GB MIG 1g.20gb", or None."""
    found = re.search(rf"\bMIG ({PROFILE})", name)
    return found[1] if found else None


def slices() -> list[Slice]:
    """The slices that this process may give to others, in the order of CUDA_VISIBLE_DEVICES, else of nvidia-smi.

    That variable holds UUIDs of slices or of GPUs, or their first characters, or numbers of GPUs. A GPU stands for all
    of its slices. As in CUDA, an entry that does not exist ends the list.
    """
    gpus, found = {}, []
    for line in nvidia_smi("-L"):
        if gpu := GPU.match(line):
            number, name = int(gpu[1]), gpu[2]
            gpus[number] = name, gpu[3]
        elif gpus and (part := SLICE.match(line)):
            found.append(Slice(f"{name} MIG {part[1]}", part[2], part[1], number))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found
    chosen: list[Slice] = []
    for entry in map(str.strip, visible.split(",")):
        if not (named := _named(entry, found, gpus)):
            break
        chosen += named
    return list(dict.fromkeys(chosen))


def _named(entry: str, found: list[Slice], gpus: dict[int, tuple[str, str]]) -> list[Slice]:
    """The slices of one entry of CUDA_VISIBLE_DEVICES. gpus: {number: (name, UUID)}."""
    if entry.isdecimal():
        return [part for part in found if part.gpu == int(entry)]
    if entry.startswith("GPU-"):
        numbers = [number for number, (_, uuid) in gpus.items() if uuid.startswith(entry)]
        return [part for part in found if part.gpu in numbers] if len(numbers) == 1 else []
    named = [part for part in found if part.uuid == entry] or [part for part in found if part.uuid.startswith(entry)]
    if not named and (old := OLD_UUID.fullmatch(entry)):  # drivers since R470 accept this form but no longer list it
        named = [Slice(f"{name} MIG", entry, "", n) for n, (name, uuid) in gpus.items() if uuid == old[1]]
    return named if entry.startswith("MIG-") and len(named) == 1 else []


def chosen_slices(text: str) -> list[Slice]:
    """The slices of "auto" (all of them) or of a list of UUIDs, or of their first characters.

    KitError where there is no slice, UsageError for one that does not exist or is not unique.
    """
    there = slices()
    if not there:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        among = "" if seen is None else f" among CUDA_VISIBLE_DEVICES={seen!r}"
        raise KitError(f"nvidia-smi lists no MIG slice here{among}; ask the queue for some, or leave out --slices.")
    if text == "auto":
        return there
    chosen = []
    for entry in filter(None, map(str.strip, text.split(","))):
        named = [part for part in there if part.uuid.startswith(entry)]
        named = [part for part in named if part.uuid == entry] or named
        if len(named) != 1:
            what = "no slice" if not named else f"{len(named)} slices"
            uuids = [part.uuid for part in there]
            raise UsageError(
                f"--slices {entry!r} names {what} of those here: {', '.join(uuids)}; give auto, or UUIDs with commas "
                f"between them.{near(entry, uuids)}"
            )
        chosen += named
    if not chosen:
        raise UsageError("--slices names no slice; give auto, or UUIDs with commas between them.")
    return list(dict.fromkeys(chosen))


def unused_slices() -> str | None:
    """A sentence where this process could use several slices, because CUDA gives a process only the first.

    Else None.
    """
    if len(there := slices()) < 2:
        return None
    return (
        f"{len(there)} MIG slices are here and a process can use one, the first ({there[0].name}); "
        "--slices auto starts a worker on each."
    )
