"""The runner: execute every run once, each in a new kernel. Finished runs are skipped, interrupted ones resumed."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tqdm.auto import tqdm

from stlm_kit.code_hash import rooms_hash
from stlm_kit.errors import Interrupted, KitError
from stlm_kit.interrupts import StopSignal
from stlm_kit.locks import Held
from stlm_kit.paths import cache_dir, runs_dir
from stlm_kit.provenance import duration
from stlm_kit.reproduce.data_needed import missing_data
from stlm_kit.reproduce.fits import refusals
from stlm_kit.reproduce.request import declared, need_gpu
from stlm_kit.reproduce.rows import collect
from stlm_kit.reproduce.run import Run
from stlm_kit.reproduce.run_record import begin, end
from stlm_kit.reproduce.study_file import FULL_SIZE

POLL = 2.0  # seconds between two looks at a run that another process executes
BAR = "{desc} |{bar}| {n_fmt} of {total_fmt} [{elapsed}{postfix}]"


@dataclass(frozen=True)
class Ended:
    """How one run ended here.

    status: done, out_of_memory, failed, interrupted, refused (it cannot fit into memory), no_data (its data is
    missing), or skipped because it is done or held by another process.
    """

    run: Run
    status: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.run.name:<32}  {self.sentence}"


def execute_runs(runs: list[Run], *, force: bool = False, unchecked: bool = False) -> list[Ended]:
    """Execute the runs that are not done, and collect the rows of their studies.

    A run at mig20 is refused if its text, tokenizer or weights are missing and cannot be fetched, or if it is predicted
    not to fit into memory (not so with `unchecked`). The others run. A failing notebook does not stop the others.

    Raises UsageError before anything starts; KitError at once where no run fits; Interrupted after a signal, when the
    running run has been saved.
    """
    need_gpu(runs)
    refused = {} if unchecked else refused_runs(runs)
    _announce(refused, runs)
    ended: list[Ended] = []
    quiet = not sys.stderr.isatty()
    with StopSignal() as stop, tqdm(total=len(runs), bar_format=BAR, disable=quiet, leave=False) as bar:
        for run in runs:
            bar.set_description(run.name)
            ended.append(refused.get(run) or _one(run, stop, force, bar))
            bar.set_postfix_str("")
            if run not in refused:  # printed already
                bar.write(str(ended[-1]))
                sys.stdout.flush()
            bar.update()
            if stop.requested or ended[-1].status == "interrupted":
                break
    for study in studies_of(runs):
        collect(study)
    if any(end.status == "interrupted" for end in ended) or stop.requested:
        raise Interrupted("Stopped; what was finished is kept, and the same command goes on from there.")
    return ended


def studies_of(runs: list[Run]) -> list[str]:
    """The studies of these runs. Chapters belong to none."""
    return sorted({run.study for run in runs if not run.is_chapter})


def refused_runs(runs: list[Run]) -> dict[Run, Ended]:
    """The runs at mig20 that must not start, each with the reason and what to do."""
    asked = [run for run in runs if run.profile == FULL_SIZE]
    without = missing_data(asked, may_fetch=True)
    found = {run: Ended(run, "no_data", f"refused: {why}") for run, why in without.items()}
    large = refusals(run for run in asked if run not in without)
    return found | {run: Ended(run, "refused", f"refused: it {why}") for run, why in large.items()}


def _announce(refused: dict[Run, Ended], runs: list[Run]) -> None:
    """Print which runs do not start and why, before any starts. KitError where none can start."""
    if not refused:
        return
    others = [run.name for run in runs if run not in refused]
    if not others and len(refused) == 1:
        (end,) = refused.values()
        what = "cannot fit" if end.status == "refused" else "has nothing to read"
        raise KitError(f"{end.run.name} {what}: {end.sentence.removeprefix('refused: ')}")
    for end in refused.values():
        print(end)
    memory = all(end.status == "refused" for end in refused.values())
    if not others:
        raise KitError(
            f"None of the {len(runs)} runs can {'fit' if memory else 'start'}; the lines above say what would."
        )
    print(f"These {'fit and ' if memory else ''}are run: {', '.join(others)}", flush=True)


def _one(run: Run, stop: StopSignal, force: bool, bar: tqdm) -> Ended:
    """Handle one run: skip it, leave it to the process that holds it, or execute it."""
    if stop.requested:
        return Ended(run, "interrupted", "not started")
    if why := _unmet(run, stop, bar):
        return Ended(run, "interrupted" if stop.requested else "failed", f"not started: {why}")
    if run.finished and not force:
        return Ended(run, "skipped", "up to date")
    lock = run.lock
    try:
        lock.acquire_unless_held()
    except Held:
        return Ended(run, "held", "another job is at it; left to that one")
    try:
        if not force and (run.finished or _record_late(run)):  # another job finished it meanwhile
            return Ended(run, "skipped", "up to date")
        if rooms_hash.__wrapped__() != rooms_hash():  # a kernel would import other code than the hash names
            return Ended(run, "failed", "not started: the kit's source has changed meanwhile; start the command again")
        if force and run.folder.exists():
            shutil.rmtree(run.folder)
        for part in run.folder.rglob("*.part-*"):  # from a killed writer; we hold the lock
            part.unlink(missing_ok=True)
        run.executed.unlink(missing_ok=True)  # its presence says that this execution has ended
        return _execute(run, stop, lambda cell, cells: bar.set_postfix_str(f"cell {cell} of {cells}"))
    finally:
        lock.release()


def _unmet(run: Run, stop: StopSignal, bar: tqdm) -> str:
    """Why a run that this one needs has no weights; "" where all have. One that nobody has executed is executed now.

    Where another process is at it, this one waits.
    """
    for need in run.needs.values():
        while not need.has_weights and not stop.requested:
            ended = _one(need, stop, False, bar)
            if ended.status == "held":
                time.sleep(POLL)
                continue
            bar.write(str(ended))
            if not need.has_weights:
                return f"it needs {need.name}, which is not done ({ended.sentence})"
        if stop.requested:
            return f"it needs {need.name}"
    return ""


def _record_late(run: Run) -> bool:
    """Whether a run's notebook is complete but its runner was killed before it updated run.json. It is updated now."""
    before = run.record
    if before.get("status") != "running" or not run.executed.is_file():
        return False
    seconds = run.executed.stat().st_mtime - datetime.fromisoformat(before["started"]).timestamp()
    end(run, "done", max(seconds, 0.0))
    return True


def _execute(run: Run, stop: StopSignal, on_cell: Callable[[int, int], None]) -> Ended:
    """Execute a run whose lock we hold, and record the result in its run.json."""
    from stlm_kit.reproduce.notebook_engine import execute

    resumed = run.record.get("status") in ("running", "interrupted")  # "running": its runner was killed
    begin(run)
    started = time.perf_counter()
    outcome = execute(
        run.notebook,
        run.executed,
        passed_parameters(run),
        environment={
            "STLM_RUN_DIR": str(run.folder),
            "STLM_RUNS": str(runs_dir().absolute()),
            "STLM_CACHE": str(cache_dir().absolute()),
        },
        log=run.folder / "log.txt",
        stop=stop,
        on_cell=on_cell,
    )
    seconds = time.perf_counter() - started
    status = end(run, outcome.status, seconds, outcome.sentence, outcome.cell, outcome.line)
    return Ended(run, status, _sentence(status, outcome, seconds, resumed))


def passed_parameters(run: Run) -> dict:
    """The parameters that papermill inserts: the run's parameters, and its names where the notebook declares them."""
    names = {"study": run.study, "run_name": run.name}
    given = {**run.parameters, "settings": run.settings} if run.needs else run.parameters
    return {**given, **{name: value for name, value in names.items() if name in declared(run.notebook)}}


def _sentence(status: str, outcome, seconds: float, resumed: bool) -> str:
    if status == "done":
        return f"done in {duration(seconds)}" + (", resumed" if resumed else "")
    if status == "interrupted":
        return f"stopped after {duration(seconds)}; it goes on when started again"
    if status == "out_of_memory":
        return f"out of memory after {duration(seconds)}; kept as its result"
    place = f" in cell {outcome.cell}" if outcome.cell else ""
    line = f" ({outcome.line})" if outcome.line else ""
    return f"failed{place}{line}: {outcome.sentence}"
