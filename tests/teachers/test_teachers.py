"""Teachers by name and from folders: frozen, with their tokenizer, cut to it, and refused in one sentence."""

import json

import pytest
import torch
from torch import nn

import stlm_kit as kit
from stlm_kit import KitError, UsageError, load_tokenizer
from stlm_kit.config import DecoderConfig
from stlm_kit.data.bpe import BPETokenizer
from stlm_kit.data.tokenizer import ByteTokenizer
from stlm_kit.model import Decoder, export_to_hf
from stlm_kit.teachers import Teacher, check_same_tokenizer, load_teacher
from stlm_kit.teachers import hub as hub_teachers
from stlm_kit.teachers import teacher as loading
from stlm_kit.teachers.packed import PackedLinear, pack
from stlm_kit.teachers.teacher import cut_vocabulary
from stlm_kit.training.distillation import DistillationLoss
from stlm_kit.training.trainable import describe_loss

VERSE = "\n\n".join(f"Verse {n}: the quick fox number {n} jumps over {n % 7} dogs." for n in range(60))
SIZES = {"n_layers": 2, "d_model": 32, "n_heads": 4, "n_kv_heads": 2, "d_ff": 48}
QWEN = {"norm": "rmsnorm", "positions": "rotary", "feed_forward": "swiglu", "bias": False, "qk_norm": True}


def tiny(**changes) -> DecoderConfig:
    sizes = {**SIZES, "vocab_size": 257, "context_length": 32, "tied_head": True, **QWEN}
    return DecoderConfig(**{**sizes, **changes})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run and its export."""
    folder = tmp_path_factory.mktemp("teachers")
    (folder / "verse.txt").write_text(VERSE)
    settings = kit.run_settings(
        corpus=str(folder / "verse.txt"), tokenizer="bytes", steps=4, batch_size=4, context_length=16, overrides=SIZES
    )
    kit.train_from_text(settings, folder / "run", progress=False)
    run = kit.load_run(folder / "run")
    export_to_hf(run.model, folder / "hf", run.tokenizer)
    return folder


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(0, 256, (2, 12), generator=torch.Generator().manual_seed(1))


def test_a_run_and_its_export_are_teachers(place, ids):
    expected = kit.load_run(place / "run").model(ids).detach()
    for name in ("run", "hf"):
        teacher = load_teacher(place / name)
        assert isinstance(teacher, Teacher) and teacher.name == str(place / name)
        assert torch.equal(teacher.logits(ids), expected)
        assert teacher.tokenizer.content_hash == ByteTokenizer().content_hash
        assert not any(module.training for module in teacher.model.modules())
        assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
        assert not teacher.logits(ids).requires_grad
    assert kit.load_teacher is load_teacher


def test_dropout_of_a_teacher_is_off(place, ids):
    teacher = load_teacher(place / "run")
    teacher.model.set_dropout(0.5)
    assert torch.equal(teacher.logits(ids), teacher.logits(ids))


@pytest.mark.parametrize("kind", ["bf16", torch.float64])
def test_types(place, ids, kind):
    model = load_teacher(place / "run", dtype=kind).model
    wanted = torch.bfloat16 if kind == "bf16" else kind
    assert {parameter.dtype for parameter in model.parameters()} == {wanted}


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        ({"name_or_folder": "smollm2"}, UsageError, "no teacher 'smollm2'.*'smollm2-135m'"),
        ({"name_or_folder": "no/such/folder"}, KitError, "There is no run directory no/such/folder"),
        ({"name_or_folder": "smollm2-135m", "dtype": "int8"}, UsageError, "no type 'int8'"),
        ({"name_or_folder": "smollm2-135m", "dtype": torch.int8}, UsageError, "no type torch.int8"),
        ({"name_or_folder": "smollm2-135m", "device": "tpu"}, UsageError, "no device named 'tpu'"),
        ({"name_or_folder": "smollm2-135m", "bits": 3}, UsageError, "bits = 3 will not do"),
        ({"name_or_folder": "smollm2-135m", "bits": True}, UsageError, "bits = True will not do"),
    ],
)
def test_what_is_refused(given, error, sentence):
    with pytest.raises(error, match=sentence):
        load_teacher(**given)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(KitError, match="holds no trained run yet"):
        load_teacher(tmp_path)


# The vocabulary


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_padded_rows_are_cut_and_the_other_logits_stay(ids, tied, bias):
    torch.manual_seed(0)
    model = Decoder(tiny(vocab_size=320, tied_head=tied, head_bias=bias)).eval()
    expected = model(ids).detach()[..., :257]
    cut = cut_vocabulary(model, 257)
    assert torch.allclose(cut(ids), expected, atol=1e-6) and cut(ids).shape[-1] == 257
    assert (cut.head.weight is cut.embedding.weight) == tied
    assert cut.config == tiny(tied_head=tied, head_bias=bias) and cut.head.out_features == 257
    Decoder(cut.config).load_state_dict(cut.state_dict())


def test_a_padded_folder_is_cut_to_its_tokenizer(tmp_path, ids):
    torch.manual_seed(0)
    model = Decoder(tiny(vocab_size=320)).eval()
    teacher = load_teacher(export_to_hf(model, tmp_path / "padded", ByteTokenizer()))
    assert torch.allclose(teacher.logits(ids), model(ids)[..., :257], atol=1e-6)
    assert teacher.model.config.vocab_size == teacher.tokenizer.vocab_size == 257


def test_a_tokenizer_larger_than_its_model(tmp_path):
    export_to_hf(Decoder(tiny(vocab_size=200)), tmp_path / "small", ByteTokenizer())
    with pytest.raises(KitError, match="The tokenizer has 257 tokens and the model 200"):
        load_teacher(tmp_path / "small")


def test_another_kind_without_a_head_is_not_cut():
    model = nn.Module()
    model.config = tiny(vocab_size=300)
    with pytest.raises(KitError, match="300 rows for 257 tokens cannot be cut"):
        cut_vocabulary(model, 257)


def renamed(tokenizer: BPETokenizer) -> BPETokenizer:
    """The same content under another name."""
    return BPETokenizer("another name", tokenizer.to_json())


def test_only_the_same_tokenizer_is_accepted():
    texts = ["the cat sat on the mat, the dog ate the cat "] * 20
    one, other = (
        load_tokenizer("bpe-265", [text.replace("cat", animal) for text in texts]) for animal in ("cat", "cow")
    )
    assert one.vocab_size == other.vocab_size == 265
    teacher = Teacher("a teacher", nn.Module(), one)
    check_same_tokenizer(teacher, renamed(one))
    for tokenizer in (other, ByteTokenizer(), load_tokenizer("gpt2")):
        with pytest.raises(KitError, match=r"a teacher reads text with the tokenizer bpe-265 \(265 tokens\)"):
            check_same_tokenizer(teacher, tokenizer)


def test_smollm2_accepts_its_own_tokenizer_saved_in_a_run(tmp_path):
    teacher = Teacher("smollm2-135m", nn.Module(), load_tokenizer("smollm2"))
    check_same_tokenizer(teacher, load_tokenizer(teacher.tokenizer.save(tmp_path)))
    with pytest.raises(KitError, match="the student with another, gpt2"):
        check_same_tokenizer(teacher, load_tokenizer("gpt2"))


# 8 and 4 bits


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("bits", "steps"), [(8, 255), (4, 15)])
@pytest.mark.parametrize("d_in", [128, 33])
def test_a_packed_matrix_is_within_half_a_step(bits, steps, d_in, bias):
    torch.manual_seed(0)
    layer = nn.Linear(d_in, 10, bias=bias)
    packed = PackedLinear.of(layer, bits)
    groups = layer.weight.view(10, -1, 64 if d_in == 128 else d_in)
    step = (groups.amax(-1) - groups.amin(-1)) / steps
    error = (packed.weight.view_as(groups) - groups).abs().amax(-1)
    assert (error <= 0.5 * step * (1 + 1e-4)).all() and error.max() > 0.2 * step.max()
    x = torch.randn(3, d_in)
    assert torch.equal(packed(x), nn.functional.linear(x, packed.weight, layer.bias))
    assert packed.codes.dtype == torch.uint8 and packed.codes.numel() == 10 * (d_in if bits == 8 else -(-d_in // 2))


def test_a_packed_matrix_of_equal_numbers():
    layer = nn.Linear(64, 2, bias=False)
    nn.init.constant_(layer.weight, 0.25)
    assert torch.equal(PackedLinear.of(layer, 4).weight, layer.weight)


def test_a_packed_teacher(place, ids):
    exact = load_teacher(place / "run").logits(ids).log_softmax(-1)
    divergence = []
    for bits in (8, 4):
        teacher = load_teacher(place / "run", bits=bits)
        assert isinstance(teacher.model.blocks[0].attention.query, PackedLinear)
        assert isinstance(teacher.model.head, nn.Linear)
        divergence.append((exact.exp() * (exact - teacher.logits(ids).log_softmax(-1))).sum(-1).mean().item())
    assert 0 <= divergence[0] < divergence[1] < 0.01


def test_shared_matrices_are_packed_once():
    model = Decoder(tiny(sharing="all")).eval()
    pack(model, 8)
    assert len({id(block) for block in model.blocks}) == 1
    assert sum(isinstance(module, PackedLinear) for module in model.modules()) == 7
    parts = Decoder(tiny(sharing="attention")).eval()
    pack(parts, 4)
    assert parts.blocks[0].attention.query is parts.blocks[1].attention.query


# Qwen3-8B


def test_qwen_without_a_gpu_is_one_sentence():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(KitError, match=r"Qwen/Qwen3-8B needs a CUDA GPU, and torch finds none here") as refused:
        load_teacher("Qwen/Qwen3-8B", bits=4)
    assert "\n" not in str(refused.value)
    with pytest.raises(KitError, match="the device given is 'cpu'"):
        load_teacher("Qwen/Qwen3-8B", device="cpu", bits=4, fetch=True)


def test_qwen_without_a_network_or_without_being_asked_for(monkeypatch, tmp_path):
    """A GPU is pretended, and the library that fetches."""
    asked = []

    def download(name, revision, allow_patterns, local_files_only):
        asked.append(local_files_only)
        raise OSError("We couldn't connect.\nmore")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr(hub_teachers, "check_gpu", lambda name, device: None)
    monkeypatch.setattr(loading, "check_gpu", lambda name, device: None)
    with pytest.raises(
        KitError, match=r"is not on this machine; load_teacher\('Qwen/Qwen3-8B', ..., fetch=True\) downloads"
    ):
        load_teacher("Qwen/Qwen3-8B", device="cpu", bits=4)
    with pytest.raises(KitError, match=r"Could not fetch Qwen/Qwen3-8B from Hugging Face \(We couldn't connect\);"):
        load_teacher("Qwen/Qwen3-8B", device="cpu", bits=4, fetch=True)
    assert asked == [True, False]


def test_a_small_model_of_qwens_layout_is_loaded_as_qwen_would_be(monkeypatch, tmp_path, ids):
    """Qwen3-8B's path on a small stand-in: a padded vocabulary, an untied head, an NFC normalizer, bf16, 8 bits."""
    torch.manual_seed(0)
    model = Decoder(tiny(vocab_size=320, tied_head=False, d_model=64, d_ff=128)).bfloat16().eval()
    folder = export_to_hf(model, tmp_path / "qwen", ByteTokenizer())
    content = json.loads((folder / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "NFC"}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **settings: str(folder))
    monkeypatch.setattr(loading, "check_gpu", lambda name, device: None)
    teacher = load_teacher("Qwen/Qwen3-8B", device="cpu", bits=8)
    assert teacher.logits(ids).shape[-1] == teacher.tokenizer.vocab_size == 257
    assert teacher.tokenizer.decode(teacher.tokenizer.encode("e\u0301 \u212b")) == "e\u0301 \u212b"
    assert teacher.tokenizer.end_text == "<|endoftext|>"
    ours, theirs = teacher.logits(ids).float(), model(ids).float()[..., :257]
    assert (ours - theirs).abs().max() < 0.05 * theirs.abs().max()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_large_models_are_read_as_small_ones_are(tmp_path, ids, tied, kind):
    torch.manual_seed(0)
    model = Decoder(tiny(tied_head=tied)).to(kind)
    folder = export_to_hf(model, tmp_path / "model", ByteTokenizer())
    one, other = hub_teachers.hf_decoder(folder), kit.load_from_hf(folder)
    assert one.config == other.config and one.embedding.weight.dtype == kind
    assert torch.equal(one(ids), other(ids))
    assert (one.head.weight is one.embedding.weight) == tied


def test_a_packed_teacher_is_hashed_into_a_runs_configuration(place):
    losses = [DistillationLoss(load_teacher(place / "run", bits=bits).model) for bits in (4, 8, 8)]
    found = [describe_loss(loss)["frozen"] for loss in losses]
    assert found[0] != found[1] == found[2]
    losses[2].teacher.model.blocks[0].attention.query.codes[0, 0] ^= 1
    assert describe_loss(losses[2])["frozen"] != found[1]


def test_qwens_stated_configuration_has_the_published_number_of_weights():
    with torch.device("meta"):
        model = Decoder(hub_teachers.CONFIGS["Qwen/Qwen3-8B"])
    assert sum(parameter.numel() for parameter in model.parameters()) == 8_190_735_360
