"""Files a user may give, good and bad: each mistake is one sentence that names the place."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stlm_kit import KitError, UsageError, load_corpus
from stlm_kit.data.documents import file_documents


def texts(path, separator=None, text_field="text"):
    return [text for _, text in file_documents(path, separator, text_field)]


def complaint(call, kind=KitError):
    with pytest.raises(kind) as caught:
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith("."), sentence
    return sentence


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_blank_lines_separate_documents_of_a_txt(write):
    path = write("a.txt", "\ufeffone\nstill one\n\n \t\r\ntwo\r\n\r\nthree\n\n\n")
    assert texts(path) == ["one\nstill one", "two", "three"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("one\n\n    two, indented\n\n\n\tthree", ["one", "    two, indented", "\tthree"]),
        ("    first\n      second\n\nlast  ", ["    first\n      second", "last  "]),
        (" \n\t\n  after blank lines\n  \n\n  \n", ["  after blank lines"]),
        ("  one\r\n \r\n\r\n\u3000two\r\n", ["  one", "\u3000two"]),
        ("\n = not WikiText=\n\n one", [" = not WikiText=", " one"]),
    ],
)
def test_a_document_keeps_its_text_leading_blanks_included(write, content, expected):
    assert texts(write("a.txt", content)) == expected


def test_with_a_separator_too(write):
    path = write("a.txt", "    one\n\n  two\n%%\n\tthree \n%%\n")
    assert texts(path, separator="%%") == ["    one\n\n  two", "\tthree "]


def test_lines_of_an_end_mark_divide_documents_and_inside_a_line_it_is_text(write):
    story = "Once.\n\nTom sat.\n<|endoftext|>\n  Then <|endoftext|> came.\r\n<|endoftext|>\r\n\nEnd.\n<|endoftext|>\n"
    assert texts(write("b.txt", story)) == ["Once.\n\nTom sat.", "  Then <|endoftext|> came.", "End."]
    assert texts(write("a.txt", "one <|endoftext|> of\n\ntwo")) == ["one <|endoftext|> of", "two"]


def test_a_separator_takes_the_place_of_blank_lines(write):
    assert texts(write("a.txt", "one\n\nstill one\n%%\ntwo\n%%\n"), separator="%%") == ["one\n\nstill one", "two"]


def test_jsonl_and_parquet_read_the_named_field(write, tmp_path):
    lines = write("a.jsonl", '{"body": "one"}\n\n{"body": "two", "id": 2}\n{"body": " "}\n')
    assert texts(lines, text_field="body") == ["one", "two"]
    pq.write_table(pa.table({"body": ["one", "", "two"], "id": [1, 2, 3]}), tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet", text_field="body") == ["one", "two"]


def test_missing_path(tmp_path):
    assert "no file or folder" in complaint(lambda: load_corpus(tmp_path / "nowhere.txt"))


def test_empty_file(write):
    assert "is empty" in complaint(lambda: texts(write("a.txt", " \n")))


def test_wrongly_encoded_file_names_the_byte(write):
    sentence = complaint(lambda: texts(write("a.txt", "zażółć".encode("iso-8859-2"))))
    assert "byte 0xbf at offset 2" in sentence and "UTF-8" in sentence


def test_binary_file_names_the_byte(write):
    assert "byte 0x00 at offset 3" in complaint(lambda: texts(write("a.txt", b"abc\0def")))


def test_jsonl_line_that_is_not_json_names_the_line(write):
    path = write("a.jsonl", '{"text": "one"}\n\n{"text": "two"\n')
    assert "Line 3 of" in (sentence := complaint(lambda: texts(path))) and "not JSON" in sentence


def test_jsonl_line_without_the_text_field_names_the_line_and_the_fields(write):
    path = write("a.jsonl", '{"text": "one"}\n{"body": "two"}\n')
    assert "Line 2 of" in (sentence := complaint(lambda: texts(path))) and "'text'" in sentence and "'body'" in sentence


@pytest.mark.parametrize("value", ["null", "3", '["a"]'])
def test_jsonl_text_that_is_no_text(write, value):
    assert "not text" in complaint(lambda: texts(write("a.jsonl", f'{{"text": {value}}}\n')))


def test_jsonl_lone_surrogate_names_the_line(write):
    path = write("a.jsonl", '{"text": "ab\\ud800"}\n')
    assert "Line 1 of" in (sentence := complaint(lambda: texts(path))) and "U+D800 at character 2" in sentence


def test_jsonl_that_is_not_utf8_names_the_line(write):
    assert "Line 2 of" in complaint(lambda: texts(write("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n')))


def test_parquet_without_the_column_names_the_columns(tmp_path):
    pq.write_table(pa.table({"body": ["one"]}), tmp_path / "a.parquet")
    assert "'body'" in complaint(lambda: texts(tmp_path / "a.parquet"))


def test_truncated_parquet(tmp_path):
    pq.write_table(pa.table({"text": ["one"] * 1000}), tmp_path / "whole.parquet")
    (tmp_path / "a.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-20])
    assert "as Parquet" in complaint(lambda: texts(tmp_path / "a.parquet"))


def test_unknown_suffix(write):
    assert ".jsonl" in complaint(lambda: texts(write("a.csv", "a,b")), UsageError)


def test_separator_where_it_has_no_use(write, tmp_path):
    assert "separator" in complaint(lambda: texts(write("a.txt", "a"), separator=""), UsageError)
    path = write("a.jsonl", json.dumps({"text": "a"}))
    assert "separator" in complaint(lambda: texts(path, separator="%"), UsageError)
