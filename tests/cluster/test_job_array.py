"""The example for a batch system: its options exist and its body runs; only the batch system is stood in for."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from stlm_kit.cli import build_parser
from stlm_kit.cluster.slurm import SCRIPT

pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")


@pytest.fixture
def study(tmp_path) -> str:
    """One run of a few seconds."""
    text = tmp_path / "lines.txt"
    text.write_text("\n\n".join(f"Line {n} says {n * n}, and then it says {n * n * n}." for n in range(90)))
    parameters = {"corpus": str(text), "tokenizer": "bytes", "preset": "laptop-gpt2", "steps": 250}
    parameters |= {"context_length": 16, "batch_size": 2, "checkpoint_every": 1000}
    grid = {"name": "only", "parameters": parameters, "profiles": {"laptop": {}}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"source": "mine", "title": "t", "citation": "c", "runs": [grid]}))
    return str(path)


@pytest.fixture
def submit(study, tmp_path):
    """Start the script as the first task of an array. A stand-in for `scontrol` notes what it was asked."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    environment = {
        **os.environ,
        "STLM_PYTHON": sys.executable,
        "PATH": f"{scontrol.parent}{os.pathsep}{os.environ['PATH']}",
    }
    environment |= {"SLURM_ARRAY_TASK_ID": "1", "SLURM_JOB_ID": "4712", "SLURM_ARRAY_JOB_ID": "4711"}

    def start(*arguments: str) -> subprocess.Popen:
        command = ["bash", str(SCRIPT), *(arguments or (study, "laptop"))]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    return start


def test_it_is_bash_and_names_only_options_that_exist():
    assert subprocess.run(["bash", "-n", SCRIPT]).returncode == 0
    commands = re.findall(r'^"\$python" -m stlm_kit (.*) &$', SCRIPT.read_text(), re.MULTILINE)
    assert len(commands) == 1
    options = build_parser().parse_args(shlex.split(commands[0].removesuffix('"${@:3}"')))
    assert options.names == ["$study"] and options.only == "$SLURM_ARRAY_TASK_ID" and options.profile == "$profile"


def test_a_run_stopped_by_the_batch_system_goes_on_when_it_comes_back(submit, runs, tmp_path):
    job = submit()
    deadline = time.monotonic() + 120
    while not any(path.read_text().count("\n") > 3 for path in runs.glob("mine/*/metrics.jsonl")):
        assert job.poll() is None and time.monotonic() < deadline, job.communicate()
        time.sleep(0.05)
    job.send_signal(signal.SIGUSR1)  # to the script alone, as `--signal=B:USR1@600` has it
    said, _ = job.communicate(timeout=120)
    assert job.returncode == 3, said
    assert (tmp_path / "asked").read_text() == "requeue 4711_1\n"

    again = submit()
    said, _ = again.communicate(timeout=300)
    assert again.returncode == 0 and "resumed" in said, said
    assert (tmp_path / "asked").read_text() == "requeue 4711_1\n"


def test_a_mistake_is_not_queued_again(submit, tmp_path):
    job = submit("no-such-study", "laptop")
    said, _ = job.communicate(timeout=120)
    assert job.returncode == 2 and "no-such-study" in said
    assert not (tmp_path / "asked").exists()
