"""The reproduction machine with real notebooks in real kernels: done once, skipped, failed, killed, held, resumed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import pytest

import stlm_kit
from stlm_kit.cli import main
from stlm_kit.commands.reproduce import reproduce
from stlm_kit.errors import KitError
from stlm_kit.interrupts import StopSignal
from stlm_kit.reproduce.request import Request, plan
from stlm_kit.reproduce.rows import collect

# A cell that says which process it is in, and then works for a while.
BUSY = """
import os, pathlib, time
folder = pathlib.Path(os.environ["STLM_RUN_DIR"])
slow = not (folder / "pid").exists()
(folder / "pid").write_text(str(os.getpid()))
for beat in range(600 if slow else 1):
    (folder / "beat").write_text(str(beat))
    time.sleep(0.05)
"""


@pytest.fixture
def go(course, tmp_path):
    """reproduce() of the test's course, its report in a folder of its own."""

    def run(*names: str, force: bool = False, **request):
        return reproduce(
            Request(list(names), notebooks=course.folder, **request), force=force, figures=tmp_path / "figs"
        )

    return run


@pytest.fixture
def start(course, forks, tmp_path):
    """Starts `stlm reproduce` of the test's course in a process of its own."""
    return lambda: forks.start("reproduce", "--notebooks", course.folder, "--figures", tmp_path / "figs")


def wait_for(condition, seconds: float = 60):
    """What `condition()` gives once it is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def pid_of_kernel(runs: Path) -> int:
    """The kernel's process id, once the busy cell runs."""
    return int(wait_for(lambda: next((text for path in runs.glob("*/*/pid") if (text := path.read_text())), "")))


def printed(notebook: Path) -> str:
    cells = nbformat.read(notebook, as_version=4).cells
    return "".join(out.text for cell in cells for out in cell.get("outputs", []) if out.output_type == "stream")


def test_done_failed_and_the_second_time(course, go, capsys):
    course.chapter("00_good", "print('steps', steps, profile)")
    course.chapter("01_bad", "a = 1", "# why\nraise ValueError('too \\x1b[1mhot\\x1b[0m\\nand more')")
    course.chapter("02_good", "print('the others still run')")
    with pytest.raises(KitError, match="1 of 3 chapters failed: 01_bad"):
        go(parameters={"steps": "5"})
    lines = capsys.readouterr().out
    assert "01_bad" in lines and "failed in cell 4 (raise ValueError" in lines and "ValueError: too hot\n" in lines

    good, bad, other = plan(Request(parameters={"steps": "5"}, notebooks=course.folder))
    assert [run.state() for run in (good, bad, other)] == ["done", "failed", "done"]
    assert printed(good.executed) == "steps 5 laptop\n"
    assert json.loads((good.folder / "result.json").read_text())["status"] == "done"
    assert json.loads((good.folder / "config.json").read_text())["parameters"]["steps"] == 5
    assert "steps 5" in (good.folder / "log.txt").read_text()
    assert not bad.executed.exists() and bad.executed.with_suffix(".failed.ipynb").is_file()
    assert not list(good.folder.parent.rglob("*.part*"))
    assert (bad.record["cell"], bad.record["sentence"]) == (4, "ValueError: too hot")

    course.chapter("01_bad", "print('mended')")
    assert [end.status for end in go(parameters={"steps": "5"})] == ["skipped", "done", "skipped"]


def test_where_a_chapter_runs(course, go):
    where = "import os, sys, json\nfound = [sys.executable, os.getcwd(), os.environ['STLM_RUN_DIR']]\n"
    course.chapter("00_where", where + "json.dump(found, open(found[2] + '/w', 'w'))")
    [end] = go()
    found = json.loads((end.run.folder / "w").read_text())
    assert found == [sys.executable, str(course.folder), str(end.run.folder)]


def test_changed_code_is_stale_and_force_begins_anew(course, go):
    course.chapter("00_a", "x = 1")
    [first] = go()
    (first.run.folder / "left over").write_text("")
    assert [end.status for end in go(force=True)] == ["done"]
    assert not (first.run.folder / "left over").exists()
    course.chapter("00_a", "x = 2")
    [changed] = plan(Request(notebooks=course.folder))
    assert changed.state() == "stale" and changed.older() == first.run.folder
    [other] = plan(Request(parameters={"steps": 9}, notebooks=course.folder))
    assert other.state() == "missing"  # another run of that name, not an older one of this
    [end] = go()
    assert end.status == "done" and changed.state() == "done"


def test_a_run_held_by_another_job_is_left_to_it(course, go):
    course.chapter("00_held", "1")
    course.chapter("01_free", "2")
    held, free = plan(Request(notebooks=course.folder))
    program = f"""
import sys, pathlib, stlm_kit.locks
with stlm_kit.locks.lock(pathlib.Path({str(held.lock.path)!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as job:
        assert job.stdout.readline() == "held\n"
        assert held.state() == "running"
        assert [end.status for end in go()] == ["held", "done"]
        assert not held.folder.exists()
        job.stdin.close()
    assert free.finished and held.state() == "missing"


def test_a_look_at_a_run_is_no_job_at_it(course, go):
    import fcntl

    course.chapter("00_a", "1")
    [run] = plan(Request(notebooks=course.folder))
    with run.lock.path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # somebody lists the runs' states
        assert run.state() == "missing"
        threading.Timer(0.05, fcntl.flock, (file, fcntl.LOCK_UN)).start()
        assert [end.status for end in go()] == ["done"]


def test_a_run_whose_runner_was_killed_before_it_said_done_is_not_computed_again(course, go):
    course.chapter("00_a", "print('computed')")
    [first] = go()
    executed = first.run.executed.read_bytes()
    first.run.write_record(status="running", ended=None, seconds=None)
    assert first.run.state() == "interrupted"
    [again] = go()
    assert (again.status, first.run.state()) == ("skipped", "done")
    assert first.run.executed.read_bytes() == executed
    assert first.run.record["ended"] and first.run.record["seconds"] > 0
    assert [end.status for end in go(force=True)] == ["done"]


def test_what_killed_writers_left_in_a_run_is_cleared_when_it_is_started_again(course, go):
    course.chapter("00_a", "1")
    [run] = plan(Request(notebooks=course.folder))
    for name in ("run.json.part-4711", "ledger/stlm.x.json.part-0a1b2c3d4e5f"):
        (run.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (run.folder / name).write_text("half")
    run.write_record(status="running")
    assert [end.status for end in go()] == ["done"]
    assert not list(run.folder.rglob("*.part*"))


def test_killed_outright_it_leaves_no_kernel_and_goes_on(course, go, start, forks, runs):
    course.chapter("00_busy", BUSY)
    start()
    kernel = pid_of_kernel(runs)
    [run] = plan(Request(notebooks=course.folder))
    assert run.state() == "running"
    assert not run.executed.exists() and run.executed.with_name("00_busy.ipynb.part").is_file()
    forks.send(signal.SIGKILL)
    forks.wait()
    wait_for(lambda: not alive(kernel), seconds=5)
    assert run.state() == "interrupted" and not run.executed.exists()
    [end] = go()
    assert end.status == "done" and "resumed" in end.sentence
    assert not list(run.folder.glob("*.part"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_resumably(course, start, forks, runs, number):
    course.chapter("00_busy", BUSY)
    course.chapter("01_after", "1")
    start()
    kernel = pid_of_kernel(runs)
    forks.send(number)
    status, err = forks.wait(), forks.error.read_text()
    assert status == 3, err
    assert "stlm: Stopped;" in err and "Traceback" not in err
    assert not alive(kernel)
    assert [run.state() for run in plan(Request(notebooks=course.folder))] == ["interrupted", "missing"]


def test_a_crashed_kernel_is_a_failure_with_its_cell(course, go):
    course.chapter("00_crash", "import os; os._exit(7)")
    course.chapter("01_after", "1")
    with pytest.raises(KitError, match="1 of 2"):
        go()
    crashed, after = plan(Request(notebooks=course.folder))
    assert crashed.record["cell"] == 3 and "kernel died" in crashed.record["sentence"]
    assert after.finished


def test_out_of_memory_is_a_studys_result_and_a_chapters_failure(course, go, tmp_path):
    short = "raise MemoryError('cannot allocate 9 TiB')"
    course.chapter("run", short)
    course.chapter("00_short", short)
    study = tmp_path / "mine.yaml"
    study.write_text(
        "{source: mine, title: Mine, citation: me, claims: [], "
        "runs: [{name: 's{steps}', grid: {steps: [1, 2]}, profiles: {laptop: {}}}]}"
    )
    assert [end.status for end in go(str(study), only="s2")] == ["out_of_memory"]
    assert [end.status for end in go(str(study), only="s2")] == ["skipped"]
    [row] = collect("mine")
    assert (row["name"], row["status"], row["configuration"]["steps"]) == ("s2", "out_of_memory", 2)
    assert row["labels"] == {"steps": 2}
    assert "9 TiB" in row["said"] and row["versions"]["torch"]
    with pytest.raises(KitError, match="1 of 1 chapters failed"):
        go("00")


def test_code_that_changes_meanwhile_is_not_run_under_the_old_hash(course, tmp_path):
    shutil.copytree(Path(stlm_kit.__file__).parent, tmp_path / "house" / "stlm_kit")
    edit = "import stlm_kit, pathlib\npath = pathlib.Path(stlm_kit.__file__).with_name('generation.py')\n"
    course.chapter("00_edits", edit + "path.write_text(path.read_text() + 'EDITED = 1')")
    course.chapter("01_after", "1")
    command = [sys.executable, "-m", "stlm_kit", "reproduce", "--notebooks", str(course.folder)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "house")}
    job = subprocess.run(
        [*command, "--figures", str(tmp_path / "figs")],
        cwd=tmp_path / "house",
        env=environment,
        capture_output=True,
        text=True,
    )
    assert job.returncode == 1
    assert "00_edits" in job.stdout and "done" in job.stdout
    assert "01_after" in job.stdout and "source has changed meanwhile" in job.stdout


def test_list_shows_states_and_starts_nothing(course, runs, capsys):
    course.chapter("00_a", "1")
    assert main(["reproduce", "--list", "--notebooks", str(course.folder)]) == 0
    assert "00_a  missing" in capsys.readouterr().out
    assert not list(runs.rglob("*.ipynb"))


def test_signals_are_noted_and_passed_on():
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        child = subprocess.Popen(["sleep", "60"])
        with StopSignal() as stop, stop.forwarding(lambda pid=child.pid: pid):
            os.kill(os.getpid(), number)
            assert stop.requested == number.name
            assert child.wait(timeout=10) == -signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_locks_are_kept_apart_from_what_they_lock(course):
    course.chapter("00_a", "1")
    [run] = plan(Request(notebooks=course.folder))
    assert not run.lock.path.is_relative_to(run.folder)


def test_runs_that_cannot_be_kept_are_one_sentence(course, tmp_path, monkeypatch):
    course.chapter("00_start_x", "1")
    (run,) = plan(Request(["00"], notebooks=course.folder))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STLM_RUNS", str(tmp_path / "file"))
    with pytest.raises(KitError, match="set STLM_RUNS to a folder"):
        _ = run.lock


def test_a_reply_that_was_never_announced_is_found_all_the_same():
    """What happens when a widget is answered past the socket's event loop: the reply lies there, and no event comes."""
    import asyncio
    from queue import Empty
    from types import SimpleNamespace

    from stlm_kit.reproduce.notebook_engine import look_again

    async def deaf(timeout=None):
        deaf.calls += 1
        if deaf.calls < 3:
            await asyncio.sleep(0)  # the second passes; nobody says that a message came
            raise Empty
        return "the reply"

    deaf.calls = 0
    channel = SimpleNamespace(get_msg=deaf)
    look_again(channel)
    look_again(channel)  # before each cell
    assert asyncio.run(channel.get_msg()) == "the reply" and deaf.calls == 3
    deaf.calls = -10
    with pytest.raises(Empty):
        asyncio.run(channel.get_msg(timeout=2))
    assert deaf.calls == -8
