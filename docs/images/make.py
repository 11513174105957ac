"""Make the pictures of README.md again: `python docs/images/make.py`, in an environment with the kit and a Chromium.

chapter.png: a piece of chapter 14 as it is stored. widget.png: chapter 04's last widget, run in JupyterLab and moved.
ledger.png: the end of the report. Each must stay below 80,000 bytes. Takes about a minute.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright

FOLDER = Path(__file__).resolve().parent
PROJECT = FOLDER.parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]

from stlm_kit.report.ledger_summary import ledger_summary  # noqa: E402
from stlm_kit.report.pages import html_page  # noqa: E402
from stlm_kit.report.report import render  # noqa: E402
from tests.browser.lab import CHROMIUM_FLAGS, Notebook, Server, chromium  # noqa: E402 (the tests' driver is no package)
from tests.browser.test_chapters import needed  # noqa: E402

MOST_BYTES = 80_000
MARGIN = 4  # pixels around what is shown


def main() -> None:
    program = chromium()
    if program is None:
        sys.exit("The pictures need a Chromium; on Debian: apt-get install chromium.")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as scratch:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_FLAGS)
        chapter(browser, Path(scratch))
        ledger(browser, Path(scratch))
        widget(browser, Path(scratch))
        browser.close()


def chapter(browser: Browser, scratch: Path) -> None:
    """From a question of chapter 14 by way of a guess, a build and a check to its picture."""
    copy = scratch / "chapter.ipynb"
    shutil.copy(PROJECT / "notebooks" / "14_the_ledger.ipynb", copy)
    page = browser.new_page(viewport={"width": 1040, "height": 1200})
    page.goto(html_page(copy).as_uri())
    first = page.get_by_text("Build. Write far_off")
    keep(page, "chapter.png", first, page.locator("img[alt^='Dots on a logarithmic axis']"))


def ledger(browser: Browser, scratch: Path) -> None:
    """The report's counts of the ledger, and one contradicted claim with its quote and what would be right."""
    path = scratch / "report.html"
    path.write_text(render([], [], ledger_summary()), "utf-8")
    page = browser.new_page(viewport={"width": 1024, "height": 1200})
    page.goto(path.as_uri())
    page.locator("summary", has_text="poster: 1 contradicted").click()
    keep(page, "ledger.png", page.locator("#ledger h2"), page.locator("details[open]"))


def widget(browser: Browser, scratch: Path) -> None:
    """Chapter 04's last widget after two of its controls were moved."""
    server = Server(scratch / "lab")
    try:
        path = PROJECT / "notebooks" / "04_memory_techniques.ipynb"
        page = browser.new_page(viewport={"width": 1480, "height": 1600})
        notebook = Notebook(page, server, server.add(path, needed(path)))
        notebook.run_all()
        box = page.locator(".jp-OutputArea-output .widget-vbox").last
        for key in ("ArrowRight", "ArrowRight"):
            box.locator(".noUi-handle").first.press(key)
        page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']")
        keep(page, "widget.png", box, box)
    finally:
        server.stop()


def keep(page: Page, name: str, first: Locator, last: Locator) -> None:
    """What the page shows from one element down to another, as a PNG with a palette."""
    last.scroll_into_view_if_needed()
    boxes, scrolled = [first.bounding_box(), last.bounding_box()], page.evaluate("window.scrollY")
    left, top = (min(box[side] for box in boxes) - MARGIN for side in "xy")
    right, bottom = (max(box[a] + box[b] for box in boxes) + MARGIN for a, b in (("x", "width"), ("y", "height")))
    clip = {"x": max(0, left), "y": top + scrolled, "width": right - max(0, left), "height": bottom - top}
    picture = Image.open(io.BytesIO(page.screenshot(clip=clip, full_page=True))).convert("RGB")
    picture = picture.quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(FOLDER / name, "png", optimize=True)
    size = (FOLDER / name).stat().st_size
    print(f"{name}: {picture.width} × {picture.height} pixels, {size:,} bytes")
    if size >= MOST_BYTES:
        sys.exit(f"{name} has {size:,} bytes and should have less than {MOST_BYTES:,}; show less of the page.")


if __name__ == "__main__":
    main()
