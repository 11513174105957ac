"""A teacher's outputs on disk: the losses of the live teacher, resumed after a kill, and refused where they misfit."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from stlm_kit import KitError, UsageError, predict_peak, train
from stlm_kit.data.batches import Batch, DocumentBatches, PackedBatches
from stlm_kit.data.token_files import TokenFile
from stlm_kit.memory import measure_peak
from stlm_kit.training import teacher_cache
from stlm_kit.training.distillation import DistillationLoss
from stlm_kit.training.kept_outputs import EmptyTeacher, Kept
from stlm_kit.training.settings import TrainingSettings
from stlm_kit.training.teacher_cache import TeacherCache, cache_cost, make_cache
from stlm_kit.training.teacher_outputs import LiveTeacher, Sampled, TopK

KINDS = {"full": Kept("full"), "top-k": Kept("top-k", 4, 2.0), "sampled": Kept("sampled", 4, 2.0, seed=3)}
every = pytest.mark.parametrize("kind", KINDS)


def token_file(seed=0):
    """Thirteen documents of random tokens below 16; 16 ends each."""
    rng = np.random.default_rng(seed)
    documents = [np.append(rng.integers(0, 16, n), 16) for n in rng.integers(4, 30, 13)]
    ids = np.concatenate(documents).astype(np.uint16)
    offsets = np.cumsum([0, *map(len, documents)])
    return TokenFile(ids, offsets, np.ones(13, dtype=np.int64), 17, 16, f"text {seed}")


@pytest.fixture
def packed():
    return PackedBatches(token_file(), 4, 8)


@pytest.fixture
def teacher(make_model):
    return make_model(seed=2, init_std=0.3, d_model=24)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STLM_CACHE", str(tmp_path / "cache"))


GROWTH = """
import resource
import torch
from stlm_kit.data.batches import PackedBatches
from stlm_kit.data.token_files import TokenFile
from stlm_kit.model.kinds import build_model
from stlm_kit.presets import preset
from stlm_kit.training.kept_outputs import Kept
from stlm_kit.training.teacher_cache import make_cache
import numpy as np

rows, length, vocab = 40, 64, 30_000
ids = np.arange(rows * length + 1, dtype=np.uint16)
tokens = TokenFile(ids, np.array([0, len(ids)]), np.ones(1), vocab, 0, "")
model = build_model(preset("laptop-llama", vocab_size=vocab, n_layers=1, d_model=16, n_heads=2, n_kv_heads=1, d_ff=16))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
make_cache(model, PackedBatches(tokens, 1, length), Kept("top-k", 4))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / (4 * length * vocab))
"""


def test_memory_does_not_grow_with_the_rows():
    """In units of one row's logits. Small tensors between large ones once kept the memory of every row."""
    grown = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True).stdout
    assert float(grown) < 20


class Killed(BaseException):
    pass


@pytest.mark.parametrize("source", [PackedBatches, DocumentBatches])
def test_a_student_has_the_losses_of_the_live_teacher(source, make_model, teacher):
    """Where nothing is cut, over two epochs and more, with another seed than that of the cache."""
    batches = source(token_file(), 4, 8)
    cache = make_cache(teacher, batches, Kept("full"))
    settings = TrainingSettings(steps=20, batch_size=4, context_length=8, seed=5)
    live, cached = (
        train(make_model(), batches, settings, progress=False, loss=DistillationLoss(which, alpha=0.3, temperature=2.0))
        for which in (teacher, cache)
    )
    assert cached.losses == pytest.approx(live.losses, rel=1e-6)
    assert not list(DistillationLoss(cache).parameters())  # the teacher is not in memory


@every
def test_the_outputs_are_those_of_the_teachers_logits(kind, packed, teacher):
    kept = KINDS[kind]
    cache = make_cache(teacher, packed, kept)
    live = LiveTeacher(teacher)
    for number in range(len(packed)):
        batch = packed(1, number)
        logits = live.outputs(batch).part(slice(None)).logits
        found = cache.outputs(batch)
        if kind == "full":
            assert torch.allclose(found.logits, logits, atol=1e-5)
        elif kind == "top-k":
            expected = TopK.of(logits, 4, 2.0)
            assert torch.equal(found.ids, expected.ids) and torch.allclose(found.log_tail, expected.log_tail, atol=1e-5)
            assert torch.allclose(found.log_probs, expected.log_probs, atol=1e-5) and found.temperature == 2.0
        else:
            expected = Sampled.of(logits, 4, 2.0)
            assert torch.allclose(found.entropy, expected.entropy, atol=1e-5)
            assert torch.equal(found.weights, torch.full((32, 4), 0.25)) and found.ids.shape == (32, 4)


def test_draws_depend_on_the_seed_and_the_row_alone(packed, teacher, tmp_path, monkeypatch):
    one = make_cache(teacher, packed, Kept("sampled", 6, seed=1))
    monkeypatch.setattr(teacher_cache, "PART_ROWS", 3)
    same = make_cache(teacher, packed, Kept("sampled", 6, seed=1), tmp_path / "again")
    other = make_cache(teacher, packed, Kept("sampled", 6, seed=2))
    batch = packed(0, 0)
    ids = [cache.outputs(batch).ids for cache in (one, same, other)]
    assert torch.equal(ids[0], ids[1]) and not torch.equal(ids[0], ids[2])
    assert not torch.equal(ids[0][:8], ids[0][8:16])


@every
def test_a_killed_run_goes_on_with_the_first_missing_part(kind, packed, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(teacher_cache, "PART_ROWS", 5)
    whole = make_cache(teacher, packed, KINDS[kind], tmp_path / "whole")
    computed, real = [], teacher_cache._Plan.tensors

    def killed(plan, numbers):
        if len(computed) == 2:
            raise Killed
        computed.append(list(numbers))
        return real(plan, numbers)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(teacher_cache._Plan, "tensors", killed)
        make_cache(teacher, packed, KINDS[kind], tmp_path / "killed")
    with pytest.raises(KitError, match="not finished; call make_cache again"):
        TeacherCache(tmp_path / "killed")
    rest = []
    monkeypatch.setattr(teacher_cache._Plan, "tensors", lambda plan, numbers: rest.append(1) or real(plan, numbers))
    make_cache(teacher, packed, KINDS[kind], tmp_path / "killed")
    assert len(rest) == whole.header["parts"] - 2
    for number in range(whole.header["parts"]):
        name = f"part-{number:05}.safetensors"
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    make_cache(teacher, packed, KINDS[kind], tmp_path / "killed")
    assert len(rest) == whole.header["parts"] - 2  # finished: nothing is computed again


def test_the_same_outputs_are_found_again_and_others_are_not(packed, teacher, make_model):
    cache = make_cache(teacher, packed, Kept("top-k", 4))
    assert make_cache(teacher, PackedBatches(token_file(), 2, 8, seed=9), Kept("top-k", 4)).folder == cache.folder
    others = {
        make_cache(teacher, packed, Kept("top-k", 5)).folder,
        make_cache(teacher, packed, Kept("top-k", 4, 2.0)).folder,
        make_cache(teacher, PackedBatches(token_file(), 4, 6), Kept("top-k", 4)).folder,
        make_cache(teacher, PackedBatches(token_file(1), 4, 8), Kept("top-k", 4)).folder,
        make_cache(teacher, PackedBatches(token_file(), 4, 8, attend_across_documents=False), Kept("top-k", 4)).folder,
        make_cache(make_model(seed=3, d_model=24), packed, Kept("top-k", 4)).folder,
        make_cache(LiveTeacher(teacher, "bf16"), packed, Kept("top-k", 4)).folder,
    }
    assert len(others) == 7 and cache.folder not in others
    assert set(cache.describe()) == {"teacher", "text", "batches", "kept"} and json.dumps(cache.describe())


@every
def test_size_and_time_are_said_before(kind, packed, teacher, tmp_path):
    said = []
    cost = cache_cost(teacher, packed, KINDS[kind])
    cache = make_cache(teacher, packed, KINDS[kind], say=said.append)
    parts = sorted(cache.folder.glob("part-*"))
    with parts[0].open("rb") as file:
        header = 8 + int.from_bytes(file.read(8), "little")
    numbering = packed.n_rows * 16 + header  # row numbers and checksums
    assert len(parts) == 1 and cost.n_bytes + numbering == parts[0].stat().st_size
    assert cost.positions == packed.n_rows * 8 and cost.seconds > 0
    assert len(said) == 1 and f"{packed.n_rows} rows" in said[0] and "MiB" in said[0]


def test_what_does_not_fit_is_one_sentence(packed, teacher, tmp_path, monkeypatch):
    cache = make_cache(teacher, packed, Kept("top-k", 4), tmp_path / "cache")
    batch = packed(0, 0)
    with pytest.raises(UsageError, match="another text than row"):
        cache.outputs(PackedBatches(token_file(1), 4, 8)(0, 0))
    with pytest.raises(UsageError, match="rows of 8 tokens and this batch has rows of 6"):
        cache.outputs(PackedBatches(token_file(), 4, 6)(0, 0))
    with pytest.raises(UsageError, match="does not number its rows"):
        cache.outputs(Batch(batch.ids, batch.targets))
    with pytest.raises(KitError, match="holds a teacher's outputs for something else"):
        make_cache(teacher, packed, Kept("top-k", 3), tmp_path / "cache")
    with pytest.raises(KitError, match="holds no teacher's outputs"):
        TeacherCache(tmp_path / "nowhere")
    for kept, sentence in (
        (lambda: Kept("all"), "no kind of outputs 'all'"),
        (lambda: Kept("full", 3), "'full' take no k"),
        (lambda: Kept("top-k"), "'top-k' need k"),
        (lambda: Kept("top-k", 0), "k = 0 will not do"),
        (lambda: Kept("full", temperature=2.0), "Full logits serve any temperature"),
        (lambda: make_cache(teacher, packed, Kept("top-k", 17)), "give 1 to 16, or keep full logits"),
    ):
        with pytest.raises(UsageError, match=sentence):
            kept()
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 10}))
    with pytest.raises(KitError, match=r"MiB more and the disk of .* has 0 MiB left"):
        make_cache(teacher, packed, Kept("full"))


def test_a_damaged_part_is_found_at_its_first_use(packed, teacher, tmp_path):
    make_cache(teacher, packed, Kept("full"), tmp_path)
    path = tmp_path / "part-00000.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(KitError, match=r"part-00000.safetensors is missing or damaged; delete"):
        TeacherCache(tmp_path).outputs(packed(0, 0))
    path.unlink()
    with pytest.raises(KitError, match="missing or damaged"):
        TeacherCache(tmp_path)


@every
def test_a_students_memory_is_predicted_without_the_cache(kind, make_model):
    config = make_model().config.model_copy(update={"vocab_size": 300, "dropout": 0.0})
    sizes = (config, "fp32", 16, 8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        measured = measure_peak(
            *sizes, repeats=0, loss=lambda: DistillationLoss(EmptyTeacher(Kept(kind, KINDS[kind].k), 300))
        )
    finally:
        torch.set_num_threads(threads)
    predicted = predict_peak(
        *sizes, semantics="cpu", loss=lambda: DistillationLoss(EmptyTeacher(Kept(kind, KINDS[kind].k), 300))
    )
    assert predicted.peak_allocated_mib == pytest.approx(measured.peak_allocated_mib, rel=0.005)
