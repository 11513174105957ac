"""A notebook that papermill executes directly, without `stlm reproduce`: `papermill run.ipynb out.ipynb -p steps 5`.

All of this happens in the notebook's kernel, when the cell after its parameters calls `checks.parameters`. The given
parameters are read from the cell that papermill inserted. papermill only warns of a name that the notebook does not
declare; here it stops the run. Then the run gets the folder that `stlm reproduce` would give it, below STLM_RUNS and
named by its hash. Training resumes there after a kill, and when the last cell has ended, the run's row joins those of
its study.
"""

from __future__ import annotations

import ast
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from stlm_kit.errors import Interrupted, KitError
from stlm_kit.locks import Held, Lock
from stlm_kit.notebook_files import first_line, notebooks_dir, read_cells, tags
from stlm_kit.reproduce import run_record
from stlm_kit.reproduce.kernel import end_with_parent
from stlm_kit.reproduce.rows import collect, is_out_of_memory
from stlm_kit.reproduce.run import PAPERMILL, Run

# set by papermill_hook.py: papermill's process id, the notebook's path
MARK, NOTEBOOK = "STLM_PAPERMILL", "STLM_NOTEBOOK"
INJECTED = "# Parameters\n"  # the first line of the cell that papermill inserts
ITS_OWN = ("PAPERMILL_INPUT_PATH", "PAPERMILL_OUTPUT_PATH")  # names that `papermill --inject-paths` adds to it


def executes_this() -> bool:
    """Whether this process is the kernel of a notebook that papermill executes directly."""
    if os.environ.get("STLM_RUN_DIR") or _shell() is None or not _executed():  # the runner's kernel, no kernel, nbval's
        return False
    return os.environ.get(MARK) == str(os.getppid()) or any("papermill" in Path(word).name for word in _parent()[1])


def given() -> dict[str, Any]:
    """{name: value} of the parameters that papermill was given; {} without any."""
    for source in reversed(_executed()):
        if source.startswith(INJECTED):
            lines = ast.parse(source).body
            names = [target.id for line in lines if isinstance(line, ast.Assign) for target in line.targets]
            return {name: _shell().user_ns[name] for name in names if name not in ITS_OWN}
    return {}


def notebook() -> Path:
    """The notebook being executed, identified by the cells that have run. KitError where it cannot be found."""
    executed = [source.strip() for source in _own_executed()]
    for path in _candidates():
        with suppress(KitError, OSError):
            if path.is_file() and [source.strip() for source in _sources(path)][: len(executed)] == executed:
                return path.resolve()
    raise KitError(
        "papermill does not say which notebook it executes, and none with these cells lies in the working folder; "
        "start papermill in the notebook's folder, or with --inject-input-path."
    )


def start(declared: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Begin the run that the notebook's parameters and papermill's select. Returns the parameters in effect.

    declared: the values of the parameters that the notebook declares. given: those that papermill set. Raises
    UsageError for parameters that are wrong, and what `begin` raises.
    """
    from stlm_kit.reproduce.notebook_run import asked_for, check_given

    try:
        path = notebook()
    except KitError as error:
        if "settings" in declared:  # run.ipynb, whose training would be lost
            raise
        print(f"This run keeps no files: {error}")
        return check_given(declared, given)
    parameters, run = asked_for(path, declared, given)
    begin(run)
    return parameters


def begin(run: Run) -> None:
    """Make this kernel execute `run`: in the run's folder, under its lock, recorded in its run.json.

    Raises KitError where another process executes it, and where its GPU, its data or the needed memory is missing.
    """
    from stlm_kit.reproduce.request import need_gpu
    from stlm_kit.reproduce.runner import refused_runs

    need_gpu([run])
    for refused in refused_runs([run]).values():
        raise KitError(f"{run.name} is {refused.sentence}")
    lock = run.lock
    try:
        lock.acquire(5)  # the kernel of a killed papermill needs a moment to end
    except Held:
        raise KitError(f"Another job is at this run ({run.folder}); wait for it, or change a parameter.") from None
    end_with_parent(signal.SIGTERM)  # if papermill is killed, a training run saves at its next step
    os.environ["STLM_RUN_DIR"] = str(run.folder)
    print(f"This run keeps its files in {run.folder}")
    shell = _shell()
    shell.events.register("post_run_cell", _Watch(run, lock).after_cell)


class _Watch:
    """Follows the cells of a run and records how it ended. It holds the run's lock until the kernel ends."""

    def __init__(self, run: Run, lock: Lock):
        self._run, self._lock, self._started = run, lock, time.perf_counter()
        self._sources = _sources(run.notebook)
        self._cell = len(_own_executed())
        self._recorded = run.finished  # done earlier, and now executed again
        if not self._recorded:
            run_record.begin(run, by=PAPERMILL)

    def after_cell(self, result) -> None:
        """Called by IPython when a cell has ended, for the first time with the present cell."""
        error = result.error_before_exec or result.error_in_exec
        if self._recorded:
            return
        seconds = time.perf_counter() - self._started
        if error is not None:
            self._recorded = True
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            line = first_line(self._sources[self._cell - 1])
            run_record.end(self._run, _status_of(error), seconds, first[:400], self._cell, line)
        elif self._cell == len(self._sources):
            self._recorded = True
            run_record.end(self._run, "done", seconds)
            collect(self._run.study)
        self._cell += 1


def _status_of(error: BaseException) -> str:
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        return "interrupted"
    return "out_of_memory" if is_out_of_memory(error) else "failed"


# --- what a kernel can see ---


def _shell():
    """IPython's shell, or None outside a notebook."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    shell = get_ipython()
    return shell if hasattr(shell, "kernel") else None


def _executed() -> list[str]:
    """The sources of the cells executed so far, the present one last."""
    return [source for source in _shell().history_manager.input_hist_raw if source.strip()]


def _own_executed() -> list[str]:
    """The same without the cell that papermill inserted."""
    return [source for source in _executed() if not source.startswith(INJECTED)]


def _sources(path: Path) -> list[str]:
    """The sources of the code cells that papermill executes. A cell that an earlier papermill inserted is replaced."""
    return [
        cell["source"]
        for cell in read_cells(path)
        if cell["cell_type"] == "code" and cell["source"].strip() and "injected-parameters" not in tags(cell)
    ]


def _candidates() -> Iterator[Path]:
    """Possible paths of the notebook: the one papermill was given, the working folder's files, the kit's notebooks."""
    folder, words = _parent()
    for told in (_shell().user_ns.get(ITS_OWN[0]), os.environ.get(NOTEBOOK)):
        if told:  # papermill may have changed its folder since
            yield from (place / str(told) for place in (Path.cwd(), folder, Path(os.environ.get("PWD", "."))))
    yield from (folder / word for word in words if word.endswith(".ipynb"))
    for path in sorted(Path.cwd().glob("*.ipynb")):
        with suppress(OSError, ValueError):
            # not one of papermill's outputs
            if "papermill" not in json.loads(path.read_text("utf-8")).get("metadata", {}):
                yield path
    yield from sorted(notebooks_dir().glob("*.ipynb"))


def _parent() -> tuple[Path, list[str]]:
    """(working folder, command line) of the program that started this kernel; empty where the system does not say."""
    import psutil

    try:
        parent = psutil.Process(os.getppid())
        return Path(parent.cwd()), parent.cmdline()
    except (psutil.Error, OSError):
        return Path.cwd(), []
