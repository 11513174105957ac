"""README.md: its pictures are small, described and made by the script that says so; its times are the chapters' own."""

import re
from pathlib import Path

import pytest

from stlm_kit.notebook_files import read_cells

PROJECT = Path(__file__).resolve().parent.parent
README = (PROJECT / "README.md").read_text("utf-8")
PICTURES = re.findall(r"!\[(.*?)\]\((.*?)\)", README, re.DOTALL)


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


CHAPTERS = sorted((PROJECT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_table_gives_the_times_that_the_chapter_gives(path):
    opening = "".join(read_cells(path)[0]["source"])
    minutes, seconds = (re.search(rf"(\d+) {unit}", opening)[1] for unit in ("minutes", "seconds"))
    [line] = [line for line in README.splitlines() if line.startswith(f"| [{path.stem}]")]
    assert line.endswith(f"| {minutes} min | {seconds} s |")
