"""A page of a headless Chromium, a JupyterLab server, and what is kept of a test that failed in them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Error, sync_playwright

from stlm_kit.paths import project_dir

from .lab import CHROMIUM_FLAGS, START, Notebook, Server, chromium


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, or the Chrome of this machine."""
    program = chromium()
    if program is None:
        missing = "The browser tests need a Chromium; on Debian: apt-get install chromium."
        pytest.fail(missing) if os.environ.get("STLM_REQUIRE_TOOLS") else pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_FLAGS, timeout=START)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """An empty page, wide enough for a notebook with its side bar and high enough to show a widget whole."""
    page = browser.new_page(viewport={"width": 1280, "height": 1600})
    yield page
    page.close()


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "lab")
    yield server
    server.stop()


@pytest.fixture
def open_notebook(page, server):
    """Open a copy of a notebook in JupyterLab, with all its code cells or some: `open_notebook(path, ids=None)`."""
    return lambda path, ids=None: Notebook(page, server, server.add(path, ids))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Keep what the page showed when its test failed, and name the folder in the failure."""
    report = yield
    if report.when == "call" and report.failed and "page" in item.funcargs:
        kept = keep_evidence(item.funcargs["page"], item.funcargs.get("server"), item.name)
        report.sections.append(("What the browser showed", f"kept in {kept}"))
    return report


def keep_evidence(page, server: Server | None, name: str) -> Path:
    """A screenshot and the server's log in a folder of $STLM_SCREENSHOTS, else of figures/browser (ignored by git)."""
    folder = Path(os.environ.get("STLM_SCREENSHOTS") or project_dir() / "figures" / "browser") / name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        page.screenshot(path=folder / "page.png")
    except Error as error:  # a page that crashed has no picture; the failure itself must still be shown
        (folder / "page.txt").write_text(f"No screenshot: {error}\n", "utf-8")
    if server is not None:
        shutil.copy(server.log, folder / "server.log")
    return folder
