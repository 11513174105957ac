"""The reader of GGUF files, on files that the test writes value by value."""

import importlib.util
import math
import random
import struct

import numpy as np
import pytest

from stlm_kit import KitError
from stlm_kit.data.gguf_file import read_gguf

CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
VALUES = {
    "general.architecture": (8, "llama"),
    "a.byte": (0, 200),
    "a.negative": (5, -70000),
    "a.real": (6, 0.5),
    "a.long": (10, 2**40),
    "a.double": (12, 0.1),
    "a.flag": (7, True),
    "words": (9, (8, ["ab", "", "zażółć"])),
    "numbers": (9, (5, [1, -2, 3])),
    "lists": (9, (9, [(5, [1]), (5, [2, 3])])),
}


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def written(kind: int, value) -> bytes:
    """A value of metadata in the format's bytes."""
    if kind == 8:
        return text(value)
    if kind == 9:
        inner, items = value
        return struct.pack("<IQ", inner, len(items)) + b"".join(written(inner, item) for item in items)
    return struct.pack(f"<{CODES[kind]}", value)


def q8_0(rng: random.Random, n: int) -> tuple[bytes, list[float]]:
    """Blocks of the type and the weights that its definition gives, one number at a time."""
    raw, weights = b"", []
    for _ in range(n // 32):
        scale, codes = rng.choice([0.5, -0.25, 0.0078125, 0.0]), [rng.randint(-128, 127) for _ in range(32)]
        raw += struct.pack("<e32b", scale, *codes)
        weights += [scale * code for code in codes]
    return raw, weights


def q4_1(rng: random.Random, n: int) -> tuple[bytes, list[float]]:
    raw, weights = b"", []
    for _ in range(n // 32):
        scale, minimum = rng.choice([0.5, 0.0625]), rng.choice([-1.0, 0.25])
        packed = [rng.randint(0, 255) for _ in range(16)]
        raw += struct.pack("<ee16B", scale, minimum, *packed)
        codes = [byte % 16 for byte in packed] + [byte // 16 for byte in packed]
        weights += [scale * code + minimum for code in codes]
    return raw, weights


def plain(code: str):
    def make(rng: random.Random, n: int) -> tuple[bytes, list[float]]:
        weights = [rng.randint(-8, 8) / 4 for _ in range(n)]
        return struct.pack(f"<{n}{code}", *weights), weights

    return make


TENSORS = {
    "f32": (0, (3, 5), plain("f")),
    "f16": (1, (7,), plain("e")),
    "q4": (3, (3, 64), q4_1),
    "q8": (8, (2, 96), q8_0),
}


def gguf_bytes(
    alignment: int = 32, magic: bytes = b"GGUF", version: int = 3, kinds: dict | None = None
) -> tuple[bytes, dict]:
    """(a file, {tensor: its weights})."""
    rng, weights, data, table = random.Random(1), {}, b"", b""
    values = VALUES | ({} if alignment == 32 else {"general.alignment": (4, alignment)})
    for name, (kind, shape, make) in TENSORS.items():
        raw, weights[name] = make(rng, math.prod(shape))
        kind = (kinds or {}).get(name, kind)
        table += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape[::-1])
        table += struct.pack("<IQ", kind, len(data))
        data += raw + bytes(-len(raw) % alignment)
    head = magic + struct.pack("<IQQ", version, len(TENSORS), len(values))
    head += b"".join(
        text(name) + struct.pack("<I", kind) + written(kind, value) for name, (kind, value) in values.items()
    )
    head += table
    return head + bytes(-len(head) % alignment) + data, weights


@pytest.mark.parametrize("alignment", [32, 64])
@pytest.mark.parametrize("version", [2, 3])
def test_metadata_and_tensors(tmp_path, alignment, version):
    content, weights = gguf_bytes(alignment, version=version)
    (tmp_path / "a.gguf").write_bytes(content)
    file = read_gguf(tmp_path / "a.gguf")
    expected = {name: value for name, (kind, value) in VALUES.items() if kind != 9}
    assert {name: file.metadata[name] for name in expected} == expected
    assert file.metadata["words"] == ["ab", "", "zażółć"] and file.metadata["numbers"] == [1, -2, 3]
    assert file.metadata["lists"] == [[1], [2, 3]]
    for name, (_, shape, _) in TENSORS.items():
        found = file.tensor(name)
        assert found.dtype == np.float32 and found.shape == shape
        assert found.flatten().tolist() == weights[name]


def test_every_cut_gives_one_sentence(tmp_path):
    """Wherever the file ends, the reader says so, and no tensor is read from beyond the end."""
    content, weights = gguf_bytes()
    refused = 0
    for end in range(0, len(content), 7):
        (tmp_path / "a.gguf").write_bytes(content[:end])
        try:
            file = read_gguf(tmp_path / "a.gguf")
            found = [file.tensor(name).flatten().tolist() == weights[name] for name in TENSORS]
            assert all(found)
        except KitError as error:
            refused += 1
            assert "install or copy it again" in str(error) and "\n" not in str(error)
    assert refused >= (len(content) - 32) // 7  # all but ends inside the last padding


def test_changed_bytes_never_give_a_traceback(tmp_path):
    content, _ = gguf_bytes()
    rng = random.Random(3)
    refused = 0
    for _ in range(300):
        changed = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(content) - 400)] = rng.randrange(256)
        (tmp_path / "a.gguf").write_bytes(changed)
        try:
            file = read_gguf(tmp_path / "a.gguf")
            for name in file.entries:
                file.tensor(name)
        except KitError:
            refused += 1
    assert refused > 30


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"magic": b"GGML"}, "does not begin with GGUF"),
        ({"version": 9}, "version is 9"),
        ({"kinds": {"q4": 14}}, "type 14; the kit reads F32, F16, Q4_1, Q8_0 only"),
        ({"kinds": {"f16": 3}}, "ends inside 'f16'"),
    ],
)
def test_what_is_refused(tmp_path, change, sentence):
    (tmp_path / "a.gguf").write_bytes(gguf_bytes(**change)[0])
    with pytest.raises(KitError, match=sentence):
        file = read_gguf(tmp_path / "a.gguf")
        for name in file.entries:
            file.tensor(name)


def test_a_missing_file_and_a_missing_tensor(tmp_path):
    with pytest.raises(KitError, match="Could not read"):
        read_gguf(tmp_path / "none.gguf")
    (tmp_path / "a.gguf").write_bytes(gguf_bytes()[0])
    with pytest.raises(KitError, match="holds no tensor 'x'"):
        read_gguf(tmp_path / "a.gguf").tensor("x")
    (tmp_path / "empty.gguf").write_bytes(b"")
    with pytest.raises(KitError, match="install or copy it again"):
        read_gguf(tmp_path / "empty.gguf")


@pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="needs the library gguf")
def test_the_library_reads_the_same_from_the_teachers_file():
    import gguf

    from stlm_kit.data.smollm2 import smollm2_file

    ours = smollm2_file()
    theirs = gguf.GGUFReader(ours.path)
    assert {tensor.name for tensor in theirs.tensors} == ours.entries.keys()
    for tensor in theirs.tensors:
        assert np.array_equal(gguf.dequantize(tensor.data, tensor.tensor_type), ours.tensor(tensor.name))
    fields = {name: field.contents() for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert fields == ours.metadata
