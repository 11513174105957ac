"""`stlm notebooks`: execute the committed chapters again in place, so that every output on a page comes from a run."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbconvert.preprocessors.coalescestreams import CoalesceStreamsPreprocessor
from tqdm.auto import tqdm

from stlm_kit.errors import Interrupted, KitError
from stlm_kit.interrupts import StopSignal
from stlm_kit.notebook_files import Chapter, find_chapters, without_widgets
from stlm_kit.paths import atomic_write, cache_dir
from stlm_kit.provenance import duration


def refresh_notebooks(names: list[str] | None = None, folder: Path | None = None) -> int:
    """Execute chapters (default: all) with their declared parameters and store the outputs in their files.

    A file is replaced only if its whole notebook ran. Raises KitError that names the failed ones, Interrupted after a
    signal. Returns 0.
    """
    wanted = find_chapters(names or [], folder)
    failed = []
    with StopSignal() as stop, tqdm(wanted, unit="chapter", disable=not sys.stderr.isatty(), leave=False) as bar:
        for chapter in bar:
            bar.set_description(chapter.name)
            started = time.perf_counter()
            sentence = refresh(chapter, stop)
            if stop.requested:
                raise Interrupted("Stopped; the chapters done so far are stored, and the rest are as they were.")
            bar.write(f"{chapter.name:<32}  {sentence or 'stored after ' + duration(time.perf_counter() - started)}")
            sys.stdout.flush()
            failed += [chapter.name] if sentence else []
    if failed:
        which = ", ".join(failed)
        raise KitError(f"{len(failed)} of {len(wanted)} notebooks failed and stay as they were: {which}.")
    return 0


def refresh(chapter: Chapter, stop: StopSignal) -> str:
    """Execute one chapter and replace its file.

    Returns "" when done, else the sentence that says why the file stayed.
    """
    from stlm_kit.reproduce.notebook_engine import execute

    with tempfile.TemporaryDirectory(prefix="stlm-notebook-") as scratch:
        output = Path(scratch) / chapter.path.name
        # Its answers and guesses go to the scratch folder: they must not mix with those of a reader's runs.
        environment = {"STLM_RUN_DIR": scratch, "STLM_RUNS": scratch, "STLM_CACHE": str(cache_dir().absolute())}
        log = Path(scratch) / "log.txt"
        outcome = execute(chapter.path.resolve(), output, {}, environment=environment, log=log, stop=stop)
        if outcome.status != "done":
            return f"failed in cell {outcome.cell} ({outcome.line}): {outcome.sentence}"
        notebook = stored(nbformat.read(output, as_version=4))
    # Parts that differ between two runs on one machine are removed, so an unchanged chapter gives an unchanged file.
    text = nbformat.writes(notebook) + "\n"
    if chapter.path.read_text("utf-8") != text:
        mode = chapter.path.stat().st_mode
        atomic_write(chapter.path, text)
        chapter.path.chmod(mode)
    return ""


def stored(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook as it is committed: sources and outputs, without times, paths, machines or widget states.

    Consecutive printed output of a cell is joined, because the kernel divides it arbitrarily.
    """
    CoalesceStreamsPreprocessor().preprocess(notebook, {})
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for cell in notebook.cells:
        for name in ("papermill", "execution", "collapsed", "scrolled"):
            cell.metadata.pop(name, None)
        if cell.get("metadata", {}).get("tags") == []:
            del cell.metadata["tags"]
        for output in cell.get("outputs", []):
            output.get("metadata", {}).pop("execution", None)
    return without_widgets(notebook)
