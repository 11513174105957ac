"""Execute one notebook with papermill, in a new kernel of this interpreter, and report how it ended.

papermill finds kernels by name, and a machine's "python3" kernel may belong to another environment. So the kernel is
started here from `sys.executable`. It communicates through sockets in its own folder, so that two jobs on one machine
never compete for ports, and it receives the runner's signals.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill import PapermillExecutionError, execute_notebook
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines

from stlm_kit.errors import KitError
from stlm_kit.interrupts import StopSignal
from stlm_kit.notebook_files import first_line, read_cells, tags
from stlm_kit.reproduce.rows import OUT_OF_MEMORY

ENGINE = "stlm"


@dataclass(frozen=True)
class Outcome:
    """How an execution ended. `cell` counts the notebook's own cells from 1; None where no cell caused the end."""

    status: str  # "done", "failed", "interrupted" or "out_of_memory"
    sentence: str = ""
    cell: int | None = None
    line: str = ""  # the failing cell's first line of code


def execute(
    notebook: Path,
    output: Path,
    parameters: dict[str, Any],
    *,
    environment: dict[str, str],
    log: Path,
    stop: StopSignal,
    on_cell: Callable[[int, int], None] = lambda cell, cells: None,
) -> Outcome:
    """Execute `notebook` with `parameters` and write it to `output`, where it appears only when complete.

    It grows as OUTPUT.part and is renamed at the end; a failed one becomes NAME.failed.ipynb. The kernel's working
    folder is the notebook's, as in JupyterLab, and its printed output is also written to `log`. `on_cell(i, n)` is
    called before each cell. Raises KitError where no kernel starts; every other end is an Outcome.
    """
    part = output.with_name(output.name + ".part")
    failed = output.with_suffix(".failed.ipynb")
    own = _OwnCells(notebook, injected=bool(parameters), on_cell=on_cell)
    oom_kills = _oom_kills()
    outcome = Outcome("done")

    with log.open("a", encoding="utf-8") as stream, warnings.catch_warnings(), ExitStack() as stack:
        warnings.filterwarnings("ignore", message=".*does not end in one of.*")  # papermill warns of the suffix .part
        # Parameters are checked already. papermill reports an annotated one as unknown and sets it all the same.
        stack.enter_context(_quiet(logging.getLogger("papermill")))
        try:
            execute_notebook(
                _braces(notebook),
                _braces(part),
                parameters,
                engine_name=ENGINE,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                cwd=str(notebook.parent),
                stdout_file=stream,
                stderr_file=stream,
                start_timeout=120,
                iopub_timeout=60,
                environment=environment,
                stop=stop,
                on_cell=own.note,
            )
        except Stopped:
            outcome = Outcome("interrupted")
        except PapermillExecutionError as error:
            outcome = _blame(error, own.number(error.cell_index), stop)
        except DeadKernelError:
            outcome = _dead(own.now, stop, _oom_kills() > oom_kills)
        except RuntimeError as error:  # nbclient raises this for a kernel that did not start
            if "Kernel" not in str(error):
                raise
            if not stop.requested:
                raise KitError(f"No kernel of {sys.executable} starts; see {log}, or install the kit again.") from error
            outcome = Outcome("interrupted")
        except OSError as error:
            outcome = Outcome("failed", f"Could not write {part}: {error.strerror}; free some space.")
    if outcome.status == "done":
        part.replace(output)
        failed.unlink(missing_ok=True)
    elif outcome.status != "interrupted" and part.exists():
        part.replace(failed)
    return outcome


@contextmanager
def _quiet(logger: logging.Logger):
    """Within this context a logger reports only errors."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class _OwnCells:
    """Counts a notebook's own cells from 1, without the parameters cell that papermill inserts."""

    def __init__(self, notebook: Path, injected: bool, on_cell: Callable[[int, int], None]):
        cells = read_cells(notebook)
        tagged = [index for index, cell in enumerate(cells) if "parameters" in tags(cell)]
        self._injected_at = (tagged[0] + 1 if tagged else 0) if injected else len(cells)
        self._cells, self._on_cell, self.now = len(cells), on_cell, 0

    def number(self, index: int) -> int:
        """The number of the cell at `index` of the executed notebook."""
        return index + 1 - (index >= self._injected_at)

    def note(self, index: int) -> None:
        self.now = self.number(index)
        self._on_cell(self.now, self._cells)


def _braces(path: Path) -> str:
    """A path with doubled braces, because papermill would replace {parameters} in it."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _blame(error: PapermillExecutionError, cell: int, stop: StopSignal) -> Outcome:
    """The outcome for a cell that raised."""
    if stop.requested or error.ename == "Interrupted":
        return Outcome("interrupted")
    message = re.sub(r"\x1b\[[0-9;]*m", "", str(error.evalue)).strip()
    text = f"{error.ename}: {message}"
    status = "out_of_memory" if OUT_OF_MEMORY.search(text) else "failed"
    ours = message and error.ename in ("KitError", "UsageError", "AssertionError")  # already a sentence
    sentence = (message if ours else text).splitlines()[0][:400]
    return Outcome(status, sentence, cell, first_line(error.source))


def _dead(cell: int, stop: StopSignal, out_of_memory: bool) -> Outcome:
    """The outcome for a kernel that has ended: on request, killed for memory, or crashed."""
    if stop.requested:
        return Outcome("interrupted")
    if out_of_memory:
        return Outcome("out_of_memory", "The system killed the kernel because the memory had run out.", cell)
    return Outcome("failed", "The kernel died: it crashed or was killed; the run's log.txt may say why.", cell)


def _oom_kills() -> int:
    """How many processes the system has killed for lack of memory so far, or 0 where it does not say."""
    try:
        return int(re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(), re.MULTILINE)[1])
    except (OSError, TypeError):
        return 0


# --- the kernel -----------------------------------------------------------------------------------------------------


class Stopped(Exception):
    """A signal came between two cells, where the kernel cannot notice it."""


class OwnKernel(AsyncKernelManager):
    """A kernel of this interpreter, independent of the kernels that Jupyter finds on this machine."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """The command that starts this interpreter's kernel."""
        argv = [sys.executable, "-m", "stlm_kit.reproduce.kernel", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python", name="python3")

    async def _async_interrupt_kernel(self) -> None:
        """Do nothing. It is called only before a shutdown, when the kernel is idle and would log a
        KeyboardInterrupt.
        """


class Client(PapermillNotebookClient):
    """papermill's client, with a check for a stop before each cell."""

    def __init__(self, nb_man, stop: StopSignal, on_cell: Callable[[int], None], **options: Any):
        super().__init__(nb_man, **options)
        self._stop, self._on_cell = stop, on_cell

    def execute_cell(self, cell, cell_index, **options):
        """Execute a cell, unless a stop was requested: then raise Stopped."""
        if self._stop.requested:
            raise Stopped
        look_again(self.kc.shell_channel)
        self._on_cell(cell_index)
        return super().execute_cell(cell, cell_index, **options)


def look_again(channel) -> None:
    """Make a channel's `get_msg` check its socket once a second, whatever its timeout.

    nbclient answers widgets through the same socket on which it awaits the cell's reply, but outside that socket's
    event loop. A reply that arrives at that moment is never announced, so a chapter with a widget would sometimes hang.
    """
    if hasattr(channel, "waits_once"):
        return
    channel.waits_once = channel.get_msg

    async def get_msg(timeout: float | None = None):
        left = timeout
        while True:
            step = 1.0 if left is None else min(1.0, left)
            try:
                return await channel.waits_once(timeout=step)
            except Empty:
                if left is not None and (left := left - step) <= 0:
                    raise

    channel.get_msg = get_msg


class OwnKernelEngine(Engine):
    """The papermill engine of the kit."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man, kernel_name, *, environment, stop, on_cell, stdout_file, start_timeout, iopub_timeout, **_
    ):
        """Execute the notebook in a new kernel of this interpreter, which is shut down at the end."""
        with connection() as (connection_file, transport):
            client = Client(
                nb_man,
                stop,
                on_cell,
                km=OwnKernel(connection_file=connection_file, **transport),
                kernel_name=kernel_name,
                startup_timeout=start_timeout,
                iopub_timeout=iopub_timeout,
                stdout_file=stdout_file,
                stderr_file=stdout_file,
                timeout=None,
            )
            client.owns_km = True  # the client then shuts the kernel down
            with stop.forwarding(lambda: client.km and client.km.provisioner and client.km.provisioner.pid):
                client.execute(env=kernel_environment(environment), stdout=stdout_file, stderr=stdout_file)


papermill_engines.register(ENGINE, OwnKernelEngine)


@contextmanager
def connection():
    """(connection file, transport) in a private temporary folder, which is removed with the kernel."""
    with tempfile.TemporaryDirectory(prefix="stlm-") as folder:
        ipc = {"transport": "ipc", "ip": f"{folder}/k"} if os.name == "posix" and len(folder) < 80 else {}
        yield f"{folder}/kernel.json", ipc


def kernel_environment(extra: dict[str, str]) -> dict[str, str]:
    """This process's environment, plus what makes an executed notebook the same everywhere."""
    environment = {
        **os.environ,
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # with a cluster's Agg the figures would be lost
        "TQDM_DISABLE": "1",  # a progress bar is not an output worth keeping
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        **extra,
    }
    package = Path(__file__).resolve().parent.parent
    if (package.parent / "pyproject.toml").is_file():  # so that the kernel can import a checkout that is not installed
        paths = [str(package.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment
