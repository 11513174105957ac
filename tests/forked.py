"""`stlm` in processes that need not import anything again: one process does, and each command is a fork of that one.

A fork is a process like any other, with its own signals, output and exit status, and it starts in milliseconds.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, os, sys
import datasets, torch._dynamo  # the first for a corpus, the second for an optimizer's first step
from stlm_kit import cli, code_hash, provenance, train_from_text
from stlm_kit.report import report
from stlm_kit.reproduce import notebook_engine
cli.build_parser(), code_hash.rooms_hash(), provenance.source_hash(), provenance.versions()  # read once a process
for line in sys.stdin:
    arguments, environment, out, error = json.loads(line)
    if not (pid := os.fork()):
        os.environ.clear()  # the parent may have started with W&B's service of an earlier test in its environment
        os.environ.update(environment)
        for number, path in enumerate((os.devnull, out, error)):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
        sys.exit(cli.main(arguments))
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Forks:
    """Runs commands one after the other; `folder` holds what the last one printed."""

    def __init__(self, folder: Path):
        self.out, self.error = folder / "out.txt", folder / "error.txt"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._busy = False
        self._parent = subprocess.Popen([sys.executable, "-c", PROGRAM], bufsize=0, **pipes)

    def start(self, *arguments: object) -> None:
        """Start `stlm ARGUMENTS` in the environment of this moment; the one before must have ended."""
        assert not self._busy, "wait for the command before"
        job = [[str(argument) for argument in arguments], dict(os.environ), str(self.out), str(self.error)]
        self._parent.stdin.write(json.dumps(job).encode() + b"\n")
        self._pid, self._busy = int(self._parent.stdout.readline()), True

    @property
    def running(self) -> bool:
        return not select.select([self._parent.stdout], [], [], 0)[0]

    def send(self, number: signal.Signals) -> None:
        os.kill(self._pid, number)

    def wait(self, seconds: float = 120) -> int:
        """The exit status, negative after a signal that ended it."""
        assert select.select([self._parent.stdout], [], [], seconds)[0], "the command does not end"
        self._busy = False
        return int(self._parent.stdout.readline())

    def run(self, *arguments: object) -> int:
        self.start(*arguments)
        return self.wait()

    def end(self) -> None:
        """Kill a command that still runs."""
        if self._busy:
            if self.running:
                self.send(signal.SIGKILL)
            self.wait()

    def close(self) -> None:
        """End the parent, and a command that still runs."""
        self.end()
        self._parent.stdin.close()
        self._parent.wait(30)
        self._parent.stdout.close()
