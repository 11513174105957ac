"""Compressed files, and rows whose text lies in another field: read, or a sentence that can be followed."""

import bz2
import gzip
import json
import lzma

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stlm_kit import KitError, UsageError, load_corpus
from stlm_kit.data.documents import file_documents, read_text


def zstd(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd}
CONTENT = {
    ".txt": "one\n\n  zażółć".encode(),
    ".jsonl": '{"text": "one"}\n{"text": "  zażółć"}\n'.encode(),
    ".json": json.dumps([{"text": "one"}, {"text": "  zażółć"}], indent=1).encode(),
}


def texts(path, **options):
    return [text for _, text in file_documents(path, options.get("separator"), options.get("text_field", "text"))]


def complaint(call, kind=KitError):
    with pytest.raises(kind) as caught:
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith("."), sentence
    return sentence


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("suffix", CONTENT)
def test_a_compressed_file_is_read_as_what_it_holds(tmp_path, suffix, packed):
    path = tmp_path / f"a{suffix.upper()}{packed}"
    path.write_bytes(PACK[packed](CONTENT[suffix]))
    assert texts(path) == ["one", "  zażółć"]


@pytest.mark.parametrize("packed", [".gz", ".zst"])
def test_parts_packed_one_after_another_are_one_file(tmp_path, packed):
    path = tmp_path / f"a.jsonl{packed}"
    path.write_bytes(b"".join(PACK[packed](b'{"text": "%d"}\n' % n) for n in range(3)))
    assert texts(path) == ["0", "1", "2"]


def test_compressed_parquet(tmp_path):
    pq.write_table(pa.table({"text": ["one", "two"]}), tmp_path / "a.parquet")
    path = tmp_path / "b.parquet.gz"
    path.write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    assert texts(path) == ["one", "two"]


@pytest.mark.parametrize("packed", PACK)
def test_a_compressed_file_that_is_damaged(tmp_path, packed):
    path = tmp_path / f"a.txt{packed}"
    path.write_bytes(PACK[packed](bytes(range(32, 127)) * 500)[:-9])
    assert "Could not decompress" in complaint(lambda: texts(path))
    path.write_bytes(b"nothing of the kind" * 10)
    assert "Could not decompress" in complaint(lambda: read_text(path))


def test_compressed_splits_and_pools(tmp_path):
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.jsonl.zst").write_bytes(zstd(json.dumps({"text": name}).encode()))
    assert {split: list(rows["text"]) for split, rows in load_corpus(tmp_path).items()} == {
        "train": ["train"],
        "validation": ["valid"],
        "test": ["test"],
    }
    (tmp_path / "pool").mkdir()
    for number in range(20):
        (tmp_path / "pool" / f"{number:02}.txt.gz").write_bytes(gzip.compress(b"text %d" % number))
    assert load_corpus(tmp_path / "pool")["train"]["name"][0].startswith("0")


def test_archives_and_suffixes_that_say_nothing(tmp_path):
    for name, sentence in (
        ("a.zip", "unpack it"),
        ("a.tar.gz", "unpack it"),
        ("a.csv.gz", "before .gz"),
        ("a", "suffix"),
    ):
        (tmp_path / name).write_bytes(b"x")
        assert sentence in complaint(lambda name=name: load_corpus(tmp_path / name), UsageError)


ROWS = [{"id": n, "data": {"text": f"text {n}", "kind": "x"}, "content": f"content {n}"} for n in range(30)]


@pytest.fixture(params=["jsonl", "ndjson", "json", "parquet"])
def rows_file(request, tmp_path):
    path = tmp_path / f"a.{request.param}"
    if request.param == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        lines = "\n".join(map(json.dumps, ROWS))
        path.write_text(json.dumps(ROWS) if request.param == "json" else lines)
    return path


@pytest.mark.parametrize(("field", "word"), [("content", "content"), ("data.text", "text")])
def test_text_in_another_field_and_in_a_nested_one(rows_file, field, word):
    assert texts(rows_file, text_field=field) == [f"{word} {n}" for n in range(30)]
    assert sum(map(len, load_corpus(rows_file, text_field=field).values())) == 30


def test_the_advice_names_a_field_that_holds_text_and_can_be_followed(rows_file):
    sentence = complaint(lambda: load_corpus(rows_file))
    assert "'content', 'data.text', 'data.kind'" in sentence or "'data.text', 'data.kind', 'content'" in sentence
    assert "text_field='" in sentence and "--set text_field=" in sentence
    advised = sentence.split("text_field='")[1].split("'")[0]
    assert sum(map(len, load_corpus(rows_file, text_field=advised).values())) == 30


def test_a_field_whose_name_has_a_dot(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"data.text": "outer", "data": {"text": "inner"}}\n')
    assert texts(tmp_path / "a.jsonl", text_field="data.text") == ["outer"]
    pq.write_table(pa.table({"data.text": ["outer"]}), tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet", text_field="data.text") == ["outer"]


def test_fields_that_will_not_do(rows_file, tmp_path):
    for field in ("data.nothing", "nothing", "id.text", "data"):
        assert f"'{field}'" in complaint(lambda field=field: load_corpus(rows_file, text_field=field))
    assert "text_field" in complaint(lambda: load_corpus(rows_file, text_field=""), UsageError)
    (tmp_path / "b.jsonl").write_text("[1]\n")
    assert "no JSON object" in complaint(lambda: texts(tmp_path / "b.jsonl"))


def test_a_separator_that_stands_nowhere_is_a_sentence(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(f"one {n}\n%%" for n in range(30)))
    assert sum(map(len, load_corpus(tmp_path / "a.txt", separator="%%").values())) == 30
    assert "'%%%' stands nowhere" in complaint(lambda: load_corpus(tmp_path / "a.txt", separator="%%%"), UsageError)


def test_a_separator_divides_the_texts_of_a_folder(tmp_path, rows_file):
    (tmp_path / "texts").mkdir()
    for number in range(3):
        (tmp_path / "texts" / f"{number}.txt").write_text("%%".join(f"text {number}-{n}" for n in range(10)))
    corpus = load_corpus(tmp_path / "texts", separator="%%")
    assert sum(map(len, corpus.values())) == 30 and corpus["train"]["name"][0] == "0.txt#1"
    assert "leave it out" in complaint(lambda: load_corpus(rows_file, separator="%%"), UsageError)


def test_end_marks_divide_a_folders_files_and_inside_lines_are_named(tmp_path):
    for part, n in (("train", 5), ("valid", 1), ("test", 2)):
        stories = "\n<|endoftext|>\n".join(f"Story {i}.\n\nIt ends." for i in range(n))
        (tmp_path / f"TinyStories-{part}.txt").write_text(stories)
    corpus = load_corpus(tmp_path)
    assert [len(rows) for rows in corpus.values()] == [5, 1, 2] and corpus["test"]["text"][1] == "Story 1.\n\nIt ends."
    assert "divided by lines of <|endoftext|>" in corpus["train"].info.description
    (tmp_path / "a.txt").write_text("<|endoftext|>".join(f"story number {n}" for n in range(30)))
    inline = load_corpus(tmp_path / "a.txt")
    assert "stands 29 times inside lines" in inline["train"].info.description
    assert "separator='<|endoftext|>'" in inline["train"].info.description
    assert sum(map(len, load_corpus(tmp_path / "a.txt", separator="<|endoftext|>").values())) == 30
