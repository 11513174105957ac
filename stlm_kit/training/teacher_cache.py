"""A teacher's outputs for every row of a text, on disk: made once, and read by students without the teacher.

    cache = make_cache(teacher, batches, Kept("top-k", k=32))
    train(student, batches, settings, loss=DistillationLoss(cache))

    header.json             what the outputs belong to: teacher, text, rows, what is kept
    part-00000.safetensors  the outputs of some rows, written completely or not at all
    parts.json              size and SHA-256 of each part that is done; a killed run goes on after the last one

Rows are those of the token file, so the seed of a training only changes their order. Outputs are keyed by the token
file, by how it is cut into rows (context length, packing), by the teacher's weights, and by what is kept.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from stlm_kit.data.batches import Batch
from stlm_kit.errors import KitError, UsageError
from stlm_kit.locks import lock
from stlm_kit.paths import atomic_write, cache_dir, clear_parts, file_sha256, fsync_folder, part_of
from stlm_kit.training.kept_outputs import EmptyTeacher, Kept
from stlm_kit.training.run_folder import read_json
from stlm_kit.training.teacher_outputs import LiveTeacher, TeacherOutputs
from stlm_kit.training.trainable import describe_loss

if TYPE_CHECKING:
    from stlm_kit.data.batches import DocumentBatches, PackedBatches
    from stlm_kit.model.language_model import LanguageModel

FORMAT = 1
PART_BYTES, PART_ROWS = 16 * 2**20, 256  # at most, but at least one row
MIB = 2**20


@dataclass(frozen=True)
class CacheCost:
    """What a cache takes: rows, positions, bytes on disk, and seconds with this teacher on this machine."""

    rows: int
    positions: int
    n_bytes: int
    seconds: float

    def __str__(self) -> str:
        minutes = f"{self.seconds / 60:.1f} minutes" if self.seconds >= 120 else f"{self.seconds:.0f} s"
        return f"{self.rows:,} rows, {self.positions:,} positions: {self.n_bytes / MIB:,.1f} MiB, about {minutes}"


def cache_cost(teacher: LiveTeacher | LanguageModel, batches: PackedBatches | DocumentBatches, kept: Kept) -> CacheCost:
    """The cost of a cache before it is made. The time is that of one row, measured, times the number of rows."""
    plan = _Plan(_live(teacher), batches, kept)
    plan.tensors([0])  # a warm-up
    started = time.perf_counter()
    plan.tensors([0])
    return CacheCost(
        plan.n_rows, plan.n_rows * plan.length, plan.n_bytes, (time.perf_counter() - started) * plan.n_rows
    )


def make_cache(
    teacher: LiveTeacher | LanguageModel,
    batches: PackedBatches | DocumentBatches,
    kept: Kept,
    folder: Path | str | None = None,
    *,
    say: Callable[[str], object] | None = None,
) -> TeacherCache:
    """The outputs of a teacher for every row that `batches` can give, made now or found from an earlier call.

    folder: default: in the kit's cache folder, by the hash of everything that the outputs depend on. say: is called
    with a line on size and time before the work starts. A process that was killed goes on with the first missing part.
    Several processes may call this at once.

    Raises KitError where the disk has too little space or the folder belongs to other outputs, UsageError for a k
    beyond the vocabulary.
    """
    plan = _Plan(_live(teacher), batches, kept)
    folder = cache_dir() / "teachers" / plan.hash[:32] if folder is None else Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder / ".lock"):
            _make(plan, folder, say, lambda: cache_cost(teacher, batches, kept))
    except (OSError, SafetensorError) as error:
        raise KitError(f"Could not write the teacher's outputs in {folder} ({error}); free some space.") from error
    return TeacherCache(folder)


def _make(plan: _Plan, folder: Path, say: Callable[[str], object] | None, cost: Callable[[], CacheCost]) -> None:
    found = read_json(folder / "header.json")
    if found is not None and found != plan.header:
        raise KitError(f"{folder} holds a teacher's outputs for something else; choose another folder.")
    atomic_write(folder / "header.json", json.dumps(plan.header, indent=1))
    done = read_json(folder / "parts.json") or {}
    missing = [number for number in range(plan.n_parts) if str(number) not in done]
    if not missing:
        return
    needed, free = plan.n_bytes * len(missing) / plan.n_parts, shutil.disk_usage(folder).free
    if needed > 0.95 * free:
        raise KitError(
            f"The teacher's outputs take {needed / MIB:,.0f} MiB more and the disk of {folder} has {free / MIB:,.0f} "
            "MiB left; keep fewer tokens, or set STLM_CACHE to another disk."
        )
    if say:
        say(f"teacher's outputs: {cost()}; {len(missing)} of {plan.n_parts} parts to do")
    for number in missing:
        path = _part(folder, number)
        clear_parts(path)  # from a process that was killed; we hold the lock
        part = part_of(path)
        save_file(plan.tensors(plan.rows_of_part(number)), part)
        done[str(number)] = {"bytes": part.stat().st_size, "sha256": file_sha256(part)}
        part.rename(path)
        fsync_folder(folder)
        atomic_write(folder / "parts.json", json.dumps(done))


class TeacherCache:
    """The outputs in a finished folder, for `DistillationLoss`. Tensors are mapped from the files.

    The checksum of a part is verified at its first use, and each row's token ids the first time that it is asked for.
    Raises KitError for a folder that is missing, unfinished or damaged.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        header, self._parts = (read_json(self.folder / name) for name in ("header.json", "parts.json"))
        if header is None:
            raise KitError(f"{self.folder} holds no teacher's outputs; make them with make_cache.")
        self.header, self.kept = header, Kept(**header["kept"])
        if self._parts is None or len(self._parts) < header["parts"]:
            raise KitError(f"The teacher's outputs in {self.folder} are not finished; call make_cache again.")
        self._open: dict[int, dict[str, Tensor]] = {}
        self._seen: set[int] = set()
        self._where: dict[int, tuple[int, int]] = {}
        for number in range(header["parts"]):
            try:
                with safe_open(_part(self.folder, number), "pt") as file:
                    rows = file.get_tensor("rows").tolist()
            except (OSError, SafetensorError) as error:
                raise self._damaged(number) from error
            self._where.update({row: (number, place) for place, row in enumerate(rows)})

    def outputs(self, batch: Batch) -> TeacherOutputs:
        """The outputs of a batch's positions, on the device of its ids.

        UsageError for rows of another length or text. KitError for a part that is damaged.
        """
        length = self.header["context_length"]
        if batch.rows is None:
            raise UsageError(
                "This batch does not number its rows, by which a teacher's outputs are found; number them."
            )
        if batch.ids.shape[1] != length:
            raise UsageError(
                f"The teacher's outputs are for rows of {length} tokens and this batch has rows of "
                f"{batch.ids.shape[1]}; make them for this context length."
            )
        found: dict[str, list[Tensor]] = {name: [] for name in self.kept.tensors(self.header["vocab_size"])}
        for place, row in enumerate(batch.rows.tolist()):
            part, index = self._place(row)
            if row not in self._seen and fingerprint(batch.ids[place]) != int(part["fingerprints"][index]):
                raise self._other_text(row)
            self._seen.add(row)
            for name, tensors in found.items():
                tensors.append(part[name][index])
        joined = {name: torch.cat(rows).to(batch.ids.device) for name, rows in found.items()}
        return self.kept.outputs(joined, self.header["vocab_size"])

    def empty(self) -> EmptyTeacher:
        """Outputs of the same shapes without values, for `predict_peak`."""
        return EmptyTeacher(self.kept, self.header["vocab_size"])

    def describe(self) -> dict:
        """What the outputs depend on, for a run's configuration."""
        return {name: self.header[name] for name in ("teacher", "text", "batches", "kept")}

    def _place(self, row: int) -> tuple[dict[str, Tensor], int]:
        if row not in self._where:
            raise self._other_text(row)
        number, index = self._where[row]
        if number not in self._open:
            path, said = _part(self.folder, number), self._parts[str(number)]
            if path.stat().st_size != said["bytes"] or file_sha256(path) != said["sha256"]:
                raise self._damaged(number)
            self._open[number] = load_file(path)
        return self._open[number], index

    def _other_text(self, row: int) -> UsageError:
        return UsageError(
            f"The teacher's outputs in {self.folder} belong to another text than row {row} of these batches; make them "
            "for this text."
        )

    def _damaged(self, number: int) -> KitError:
        return KitError(
            f"{_part(self.folder, number)} is missing or damaged; delete {self.folder} and make the outputs again."
        )


class _Plan:
    """Which rows a cache has, in which parts, and how they are computed."""

    def __init__(self, teacher: LiveTeacher, batches: PackedBatches | DocumentBatches, kept: Kept) -> None:
        self.teacher, self.kept = teacher, kept
        self.source = copy.copy(batches)
        self.source.batch_size, self.source.seed = 1, 0  # number i is then the i-th row of one order of all rows
        self.n_rows, self.length = batches.n_rows, batches.context_length
        vocab_size = batches.tokens.vocab_size
        if len(teacher.model.head.weight) < vocab_size:
            raise UsageError(
                f"The teacher has {len(teacher.model.head.weight):,} logits and the text {vocab_size:,} tokens; give a "
                "teacher with the same tokenizer."
            )
        if kept.kind == "top-k" and kept.k >= vocab_size:
            raise UsageError(f"k = {kept.k} will not do; give 1 to {vocab_size - 1}, or keep full logits.")
        self.vocab_size = vocab_size
        a_row = self.length * kept.bytes_per_position(vocab_size)
        self.n_bytes = self.n_rows * a_row
        self.part_rows = max(1, min(PART_BYTES // a_row, PART_ROWS))
        self.n_parts = -(-self.n_rows // self.part_rows)
        said = describe_loss(teacher)
        self.header = {
            "format": FORMAT,
            "teacher": {"weights": said["frozen"], **said["settings"]},
            "text": batches.tokens.content_hash,
            "batches": batches.description,
            "kept": kept.describe(),
            "context_length": self.length,
            "vocab_size": vocab_size,
            "rows": self.n_rows,
            "parts": self.n_parts,
        }
        self.hash = hashlib.sha256(json.dumps(self.header, sort_keys=True).encode()).hexdigest()

    def rows_of_part(self, number: int) -> range:
        """The numbers, in the source's order, of a part's rows."""
        return range(number * self.part_rows, min((number + 1) * self.part_rows, self.n_rows))

    def tensors(self, numbers: range | list[int]) -> dict[str, Tensor]:
        """What is stored for some rows. Each row is computed alone, and its draws depend on its number alone."""
        # Written into one tensor each: small tensors that stay between the large ones of each row would keep an
        # allocator from returning that memory, 25 MiB a row for SmolLM2.
        wanted = self.kept.tensors(self.vocab_size).items()
        found = {name: torch.empty(len(numbers), self.length, *shape, dtype=dtype) for name, (shape, dtype) in wanted}
        rows, prints = torch.empty(len(numbers), dtype=torch.long), torch.empty(len(numbers), dtype=torch.long)
        device = next(self.teacher.parameters()).device
        for place, number in enumerate(numbers):
            batch = self.source(0, number)
            rows[place], prints[place] = batch.rows[0], fingerprint(batch.ids[0])
            outputs = self.teacher.outputs(batch.to(device))
            logits = outputs.part(slice(None)).logits[:, : self.vocab_size].float()
            seed = np.random.SeedSequence([self.kept.seed, number]).generate_state(1)  # torch's CPU reads 32 bits of it
            generator = torch.Generator(device).manual_seed(int(seed[0]))
            for name, tensor in self.kept.of(logits, generator).items():
                found[name][place] = tensor
        return {"rows": rows, "fingerprints": prints, **found}


def fingerprint(ids: Tensor) -> int:
    """A checksum of a row's token ids."""
    return zlib.crc32(ids.cpu().numpy().astype("<i8").tobytes())


def _live(teacher: LiveTeacher | LanguageModel) -> LiveTeacher:
    return teacher if isinstance(teacher, LiveTeacher) else LiveTeacher(teacher)


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05}.safetensors"
