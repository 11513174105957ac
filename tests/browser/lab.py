"""JupyterLab as a reader meets it: a server on 127.0.0.1 with a token, and a notebook open in a headless Chromium.

Nothing here waits for a fixed time: each step waits until the page shows that it happened.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path

import nbformat
from playwright.sync_api import ConsoleMessage, Locator, Page, Request, Response, expect

# Time limits in milliseconds, for machines far slower than a laptop: nothing is asserted about speed.
START, RUN, MOVE = 120_000, 300_000, 120_000
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
CHROMIUM_FLAGS += ["--disable-background-networking", "--disable-component-update"]
SETTINGS = {
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},  # else a cell out of view is not in the page
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}
IDLE = ".jp-Notebook-ExecutionIndicator[data-status='idle']"
ERROR, DIALOG = "[data-mime-type='application/vnd.jupyter.error']", ".jp-Dialog"
TROUBLE = f"{ERROR}, {DIALOG}, [data-mime-type='application/vnd.jupyter.stderr']"
UNDRAWN = re.compile(r"Error (displaying|creating) widget|Loading widget|This setting cannot be drawn")
# Every code cell has a number, or an error or a question of Lab's keeps the rest from running.
ALL_RAN = """stops => {
    const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(prompt => prompt.textContent);
    if (document.querySelector(stops.error) && !prompts.some(prompt => prompt.includes('*'))) return true;
    return document.querySelector(stops.dialog) || prompts.every(prompt => /\\[\\d+\\]/.test(prompt));
}"""


def chromium() -> str | None:
    """Debian's Chromium, or the Chrome of this machine; None where there is neither."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next(filter(None, map(shutil.which, names)), None)


class Server:
    """One JupyterLab process; its notebooks, settings, kernels' runs and log all lie under `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.notebooks = folder / "notebooks"
        self.log = folder / "server.log"
        self.token = secrets.token_hex(16)
        self.notebooks.mkdir(parents=True)
        settings = folder / "settings"
        settings.mkdir()
        (settings / "overrides.json").write_text(json.dumps(SETTINGS), "utf-8")
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ServerApp.ip=127.0.0.1", "--ServerApp.port=0"]
        command += [f"--ServerApp.root_dir={self.notebooks}", f"--CourseDirectory.root={self.notebooks}"]
        command += [f"--LabApp.app_settings_dir={settings}"]
        command += ["--ServerApp.allow_root=True"]  # in a container there may be no other user
        with self.log.open("w") as log:
            self._process = subprocess.Popen(command, env=self._environment(), stdout=log, stderr=subprocess.STDOUT)
        self.url = self._wait_for_url()

    def _environment(self) -> dict[str, str]:
        """The test's own, with every place of Jupyter's and the kit's runs moved under `folder`."""
        places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
        places |= {"JUPYTERLAB_SETTINGS_DIR": "user-settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
        places |= {"IPYTHONDIR": "ipython", "STLM_RUNS": "runs"}
        moved = {variable: str(self.folder / name) for variable, name in places.items()}
        return {**os.environ, **moved, "JUPYTER_TOKEN": self.token, "JUPYTER_PLATFORM_DIRS": "1"}

    def _wait_for_url(self) -> str:
        """The address that the server notes in its runtime folder once it listens."""
        note = self.folder / "runtime" / f"jpserver-{self._process.pid}.json"
        deadline = time.monotonic() + START / 1000
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                return json.loads(note.read_text("utf-8"))["url"]
            except (FileNotFoundError, ValueError):  # not yet there, or half written
                time.sleep(0.1)
        self.stop()
        raise RuntimeError(f"JupyterLab did not start; its log:\n{self.log.read_text('utf-8')}")

    def add(self, notebook: Path, code: Collection[str] | None = None) -> str:
        """Copy a notebook to where the server serves it, without outputs: what the page shows, it drew itself.

        code: the ids of the code cells that the copy keeps; all by default.
        """
        book = nbformat.read(notebook, as_version=4)
        book.cells = [cell for cell in book.cells if cell.cell_type != "code" or code is None or cell.id in code]
        for cell in book.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(book, self.notebooks / notebook.name)
        return notebook.name

    def complaints(self) -> list[str]:
        """The lines of the log that say that the server or a kernel failed."""
        lines = self.log.read_text("utf-8", errors="replace").splitlines()
        return [line for line in lines if re.match(r"\[[EC] |Traceback|.*(Kernel died|KernelRestarter)", line)]

    def stop(self) -> None:
        """End the server; it ends its kernels before it goes."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Notebook:
    """A notebook of the server, open in a page of the browser."""

    def __init__(self, page: Page, server: Server, name: str):
        self.page, self.server, self.name = page, server, name
        self._heard: list[str] = []  # what the page complained about, in its own words
        page.on("pageerror", lambda error: self._heard.append(f"uncaught in the page: {error}"))
        page.on("console", self._hear_console)
        page.on("request", self._hear_request)
        page.on("response", self._hear_response)
        page.set_default_timeout(START)
        page.goto(f"{server.url}lab/tree/{name}?token={server.token}")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        # The notebook's own indicator says idle before there is a kernel; run then, and Lab asks which kernel to take.
        expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle", timeout=START)

    def _hear_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._heard.append(f"console: {message.text[:500]}")

    def _hear_request(self, request: Request) -> None:
        if not request.url.startswith((self.server.url, self.server.url.replace("http", "ws"), "data:", "blob:")):
            self._heard.append(f"asked for something outside this machine: {request.url[:200]}")

    def _hear_response(self, response: Response) -> None:
        if response.status >= 400:
            self._heard.append(f"the server answered {response.status} to {response.url[:200]}")

    def cell(self, cell_id: str) -> Locator:
        """The cell with this id: the page does not know ids, but keeps the file's order."""
        cells = nbformat.read(self.server.notebooks / self.name, as_version=4).cells
        return self.page.locator(".jp-Notebook .jp-Cell").nth([cell.id for cell in cells].index(cell_id))

    def run_all(self) -> None:
        """Run > Run All Cells, and wait until the last one ran, or until an error or a question stopped it."""
        self.menu("Run", "Run All Cells")
        self.page.wait_for_function(ALL_RAN, arg={"error": ERROR, "dialog": DIALOG}, timeout=RUN)
        self.page.wait_for_selector(IDLE, timeout=RUN)

    def menu(self, name: str, entry: str) -> None:
        """Choose an entry of the menu bar."""
        self.page.locator(".lm-MenuBar-itemLabel").get_by_text(name, exact=True).click()
        self.page.locator(".lm-Menu-itemLabel").get_by_text(entry, exact=True).click()

    def run(self, cell_id: str) -> str:
        """Run one cell by Ctrl+Enter; return the text of its output once it is there."""
        cell = self.cell(cell_id)
        prompt = cell.locator(".jp-InputPrompt")
        before = prompt.text_content()
        cell.locator(".jp-InputPrompt").click()
        self.page.keyboard.press("Control+Enter")
        expect(prompt).not_to_have_text(before, timeout=RUN)
        expect(prompt).to_have_text(re.compile(r"\[\d+\]"), timeout=RUN)
        self.page.wait_for_selector(IDLE, timeout=RUN)
        return cell.locator(".jp-Cell-outputArea").inner_text()

    def write(self, cell_id: str, code: str) -> None:
        """Replace what stands in a code cell, as a reader who selects everything and pastes."""
        self.cell(cell_id).locator(".cm-content").click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(code)
        self.page.keyboard.press("Escape")

    def save(self) -> nbformat.NotebookNode:
        """Press Ctrl+S; return the file as it then is."""
        written = f"{self.server.url}api/contents/{self.name}"
        with self.page.expect_response(
            lambda answer: answer.url.startswith(written) and answer.request.method == "PUT"
        ):
            self.page.keyboard.press("Control+s")
        return nbformat.read(self.server.notebooks / self.name, as_version=4)

    def problems(self) -> list[str]:
        """Whatever went wrong so far: in the page, in an output, in a dialog, in the server or its kernel."""
        shown = [f"shown in the page: {text[-1000:]}" for text in self.page.locator(TROUBLE).all_inner_texts()]
        undrawn = [match[0] for match in UNDRAWN.finditer(self.page.locator(".jp-Notebook").inner_text())]
        return self._heard + shown + undrawn + [f"server: {line}" for line in self.server.complaints()]
