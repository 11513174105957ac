"""The sandbox: what runs in it reaches nothing of the teacher's, no network, and only so much of the machine."""

import os
import time

import pytest

from stlm_kit.course import sandbox
from stlm_kit.course.course_file import Limits
from stlm_kit.course.kernel import Kernel

from .grading import needs_bubblewrap

SECRET = "the teacher's own line, which is nowhere else"


def shown(outcome):
    return "".join(output.get("text", "") or output.get("evalue", "") or "" for output in outcome.outputs)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder of the teacher's outside the sandbox, with something in it."""
    place = tmp_path_factory.mktemp("teacher")
    (place / "secret.txt").write_text(SECRET)
    return place


@pytest.fixture(scope="module")
def kernel(places):
    needs_bubblewrap()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STLM_ASSIGNMENTS", str(places))
        patch.setenv("COURSE_KEY", SECRET)
        (places / "01_a").mkdir()
        (places / "01_a" / "exercises.yaml").write_text("title: public")
        (places / "01_a" / "01_a.ipynb").write_text(SECRET)
        with Kernel(Limits(memory_mib=2048, file_mib=1), locked_in=True) as running:
            yield running


def test_a_cell_runs_and_libraries_are_there(kernel):
    outcome = kernel.run("import torch\nfrom stlm_kit.course import desk\nprint(torch.ones(2).sum().item())", 60)
    assert (outcome.status, shown(outcome)) == ("ok", "2.0\n")


def test_what_a_cell_leaves_open_the_next_one_finds(kernel):
    assert kernel.run("kept = 3", 20).status == "ok"
    assert shown(kernel.run("print(kept)", 20)) == "3\n"


def test_nothing_of_the_teachers_is_there(kernel, places):
    search = f"""
import os, sys
found = []
for folder, _, files in os.walk("/"):
    if folder.startswith(("/proc", "/sys", "/usr", "/dev", sys.prefix, sys.base_prefix)):
        continue
    for name in files:
        if name.endswith((".ipynb", ".txt", ".db")):
            found.append(os.path.join(folder, name))
print(found, os.path.exists({str(places)!r}), {SECRET!r} in str(os.environ))
"""
    assert shown(kernel.run(search, 60)) == "[] False False\n"


def test_the_public_rules_are_there_and_not_the_notebook(kernel):
    listing = "import os; print(os.listdir(os.environ['STLM_ASSIGNMENTS'] + '/01_a'))"
    assert shown(kernel.run(listing, 20)) == "['exercises.yaml']\n"


def test_the_assignments_that_a_wheel_brings_are_covered(tmp_path, monkeypatch):
    inside = tmp_path / "notebooks" / "assignments"
    inside.mkdir(parents=True)
    monkeypatch.setattr(sandbox, "PACKAGE", tmp_path)
    arguments = sandbox.wrapper(tmp_path)
    assert arguments[arguments.index(str(inside)) - 1] == "--tmpfs"


@pytest.mark.parametrize("path", ["/x", "/tmp/x", "/dev/shm/x", "/usr/x", str(sandbox.PACKAGE / "x")])
def test_only_its_own_folder_can_be_written(kernel, path):
    outcome = kernel.run(f"open({path!r}, 'w')", 20)
    assert outcome.status == "error" and "Read-only file system" in shown(outcome)
    assert kernel.run("open('mine', 'w').write('x')", 20).status == "ok"


def test_there_is_no_network_not_even_this_machines(kernel):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        outcome = kernel.run(f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=5)", 20)
    assert outcome.status == "error" and "refused" in shown(outcome)


def test_no_other_process_is_there(kernel):
    count = "import os; print(len([name for name in os.listdir('/proc') if name.isdigit()]))"
    assert int(shown(kernel.run(count, 20))) <= 3  # bubblewrap, the kernel, and its helper at most
    assert kernel.run(f"import os; os.kill({os.getpid()}, 0)", 20).status == "error"


@pytest.mark.parametrize(
    ("bomb", "sentence"),
    [("b = bytearray(8 * 2**30)", ""), ("open('big', 'wb').write(bytes(2**21))", "File too large")],
)
def test_memory_and_files_are_limited(kernel, bomb, sentence):
    outcome = kernel.run(bomb, 20)
    assert outcome.status == "error" and sentence in shown(outcome)


def test_output_is_cut_off(kernel):
    outcome = kernel.run("for i in range(3000): print('x' * 1000)", 60)
    assert len(shown(outcome)) < 400_000 and shown(outcome).endswith("cut off\n")


def test_a_loop_is_stopped_and_the_kernel_lives_on(kernel):
    outcome = kernel.run("while True: pass", 1)
    assert outcome.status == "timeout" and "1 s" in outcome.why
    assert shown(kernel.run("print('alive')", 20)) == "alive\n"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import os; os._exit(0)", "ended the Python process"),
        ("exit()", "called exit"),
        ("import ctypes; ctypes.string_at(0)", "ended the Python process"),
        ("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass", "stopped after 2 s"),
    ],
)
def test_a_kernel_that_ends_or_will_not_stop_is_gone_and_so_is_its_folder(code, why):
    needs_bubblewrap()
    begun = time.monotonic()
    with Kernel(Limits(), locked_in=True) as kernel:
        outcome = kernel.run(code, 2 if "while" in code else 60)
        assert outcome.status == "dead" and why in outcome.why
    assert not kernel.folder.exists() and time.monotonic() - begun < 200


def test_without_bubblewrap_limits_and_a_bare_environment_remain(monkeypatch):
    monkeypatch.setenv("COURSE_KEY", SECRET)
    with Kernel(Limits(memory_mib=2048), locked_in=False) as kernel:
        assert shown(kernel.run("import os; print('COURSE_KEY' in os.environ)", 60)) == "False\n"
        assert kernel.run("b = bytearray(8 * 2**30)", 20).status == "error"
        assert kernel.run("while True: pass", 1).status == "timeout"
        assert kernel.run("import os; os._exit(0)", 20).status == "dead"


def test_a_missing_or_forbidden_bubblewrap_is_one_sentence(monkeypatch, tmp_path):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    try:
        for path, sentence in [(str(tmp_path), "No permissions"), (str(tmp_path / "no"), "apt install bubblewrap")]:
            sandbox.missing.cache_clear()
            monkeypatch.setenv("PATH", path)
            assert sentence in sandbox.missing() and sandbox.missing().endswith(".")
    finally:
        sandbox.missing.cache_clear()
