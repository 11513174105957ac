"""Rows that hold text in one of their fields: JSON lines, JSON and Parquet.

A field is named directly, or with dots where it is nested: `data.text` is the text of {"data": {"text": ...}}.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stlm_kit.data.open_file import opened, shown, suffixes
from stlm_kit.errors import KitError

_MISSING = object()


def check_unicode(text: str, where: str) -> str:
    """`text` unchanged. KitError where it holds a lone surrogate, half of a UTF-16 pair that UTF-8 cannot encode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise KitError(
            f"{where} holds the lone surrogate U+{ord(text[error.start]):04X} at character {error.start}, which is not "
            "Unicode text; repair the text or drop that character."
        ) from None
    return text


def field_of(row: dict, field: str) -> Any:
    """The value of a row's field. A name with dots goes into nested fields where no field has that name."""
    if field in row:
        return row[field]
    first, dot, rest = field.partition(".")
    return field_of(row[first], rest) if dot and isinstance(row.get(first), dict) else _MISSING


def text_fields(row: dict, before: str = "") -> list[str]:
    """The names of the fields that hold text, the longest text first. Nested names have dots."""
    found = []
    for name, value in row.items():
        if isinstance(value, str):
            found.append((len(value), f"{before}{name}"))
        elif isinstance(value, dict) and value:
            nested = text_fields(value, f"{before}{name}.")
            found += [(len(field_of(value, name_[len(f"{before}{name}.") :])), name_) for name_ in nested]
    return [name for _, name in sorted(found, key=lambda pair: -pair[0])]


def advice(candidates: Iterable[str]) -> str:
    """One phrase on how to name another field, in notebooks and on the command line."""
    field = next(iter(candidates), "NAME")
    return (
        f"name the field that holds the text with text_field={field!r} (on the command line: --set text_field={field})"
    )


def row_text(row: Any, text_field: str, where: str) -> str:
    """The text of a row. Raises KitError where there is none; `where` opens its sentence."""
    if not isinstance(row, dict):
        raise KitError(f"{where} is no JSON object, so it has no field {text_field!r}; mend or remove it.")
    text = field_of(row, text_field)
    if text is _MISSING:
        candidates = text_fields(row)
        names = candidates or list(row)
        fields = f" among {', '.join(map(repr, names))}" if names else ""
        raise KitError(f"{where} has no field {text_field!r}{fields}; {advice(candidates)}.")
    if not isinstance(text, str):
        raise KitError(
            f"{where}: the field {text_field!r} is of type {type(text).__name__}, not text; "
            f"mend it, or {advice(text_fields(row))}."
        )
    return check_unicode(text, where)


def jsonl_text(line: bytes | str, text_field: str, where: str) -> str:
    """The text of one JSON line. Raises KitError where there is none; `where` opens its sentence."""
    return row_text(_json(line, where), text_field, where)


def _json(content: bytes | str, where: str) -> Any:
    try:
        return json.loads(content)
    except UnicodeDecodeError as error:
        raise KitError(
            f"{where} is not UTF-8: byte 0x{content[error.start]:02x} at {error.start}; convert it."
        ) from None
    except (ValueError, RecursionError) as error:
        raise KitError(f"{where} is not JSON ({error}); mend or remove it.") from None


def jsonl_documents(path: Path, text_field: str = "text") -> Iterator[tuple[str, str]]:
    """The documents of a JSON-lines file: `text_field` of each line. Blank lines are skipped."""
    name, where = shown(path.name), shown(path)
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield f"{name}#{number}", jsonl_text(line, text_field, f"Line {number} of {where}")


def json_documents(path: Path, text_field: str = "text") -> Iterator[tuple[str, str]]:
    """The documents of a .json file: a list of rows, or JSON lines under that suffix, as in C4's .json.gz files."""
    with opened(path) as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start.startswith(b"["):
        yield from jsonl_documents(path, text_field)
        return
    with opened(path) as file:
        rows = _json(file.read(), shown(path))
    for number, row in enumerate(rows, start=1):
        yield f"{shown(path.name)}#{number}", row_text(row, text_field, f"Row {number} of {shown(path)}")


def parquet_documents(path: Path, text_field: str = "text") -> Iterator[tuple[str, str]]:
    """The documents of a Parquet file: `text_field` of each row, read one row group at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = shown(path.name)
    _, compression = suffixes(path)
    try:
        with opened(path) as raw, pq.ParquetFile(io.BytesIO(raw.read()) if compression else raw) as file:
            column = _parquet_column(file.schema_arrow, text_field, path)
            number = 0
            for batch in file.iter_batches(batch_size=1024, columns=[text_field]):
                for row in batch.to_pylist():
                    number += 1
                    text = row[column] if column == text_field else field_of(row, text_field)
                    if not isinstance(text, str):
                        text = None if text is _MISSING else text
                        raise KitError(
                            f"Row {number} of {shown(path)}: {text_field!r} is {text!r:.40}, not text; mend it."
                        )
                    yield f"{name}#{number}", text
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise KitError(f"Could not read {shown(path)} as Parquet ({reason}); check that it is complete.") from error


def _parquet_column(schema: Any, text_field: str, path: Path) -> str:
    """The column that `text_field` names, or that contains it. KitError lists the text columns where there is none."""
    import pyarrow as pa

    def walk(fields: Iterable[Any], before: str) -> Iterator[tuple[str, Any]]:
        for field in fields:
            yield f"{before}{field.name}", field.type
            if pa.types.is_struct(field.type):
                yield from walk(field.type, f"{before}{field.name}.")

    columns = dict(walk(schema, ""))
    if text_field in schema.names:
        return text_field
    if text_field in columns:
        return text_field.partition(".")[0]
    texts = [name for name, kind in columns.items() if pa.types.is_string(kind) or pa.types.is_large_string(kind)]
    names = texts or list(columns)
    raise KitError(
        f"The file {shown(path)} has no column {text_field!r} among {', '.join(map(repr, names))}; {advice(texts)}."
    )
