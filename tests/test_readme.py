"""The pictures of README.md are there, small, described, and made by the script that says so."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PICTURES = re.findall(r"!\[(.*?)\]\((.*?)\)", (PROJECT / "README.md").read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize(("words", "path"), PICTURES, ids=[path for _, path in PICTURES])
def test_each_picture_is_small_and_described(words, path):
    data = (PROJECT / path).read_bytes()
    assert data.startswith(b"\x89PNG") and len(data) < 80_000
    assert len(words) >= 40
    script = (PROJECT / "docs" / "images" / "make.py").read_text("utf-8")
    assert f'"{Path(path).name}"' in script, f"{path} is not made by docs/images/make.py"


def test_there_is_a_chapter_a_widget_and_the_ledger():
    assert [Path(path).stem for _, path in PICTURES] == ["chapter", "widget", "ledger"]
    kept = sorted((PROJECT / "docs" / "images").glob("*.png"))
    assert sorted(PROJECT / path for _, path in PICTURES) == kept
