"""Jobs that execute the runs of one study side by side, each a process of its own, to be killed at will.

They are forks of one process that has imported everything and made the plan, so that a job's first run starts at once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, os, sys
from pathlib import Path
import torch._dynamo
from stlm_kit import train_from_text
from stlm_kit.reproduce import notebook_engine
from stlm_kit.reproduce.request import Request, plan
from stlm_kit.reproduce.runner import execute_runs
study, notebooks, out = sys.argv[1:]
runs = plan(Request([study], notebooks=Path(notebooks)))
[run.folder for run in runs]  # their hashes
for line in sys.stdin:
    if line == "start\\n":
        if not (pid := os.fork()):
            for number, path in enumerate((os.devnull, out, out)):
                os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
            execute_runs(runs)
            sys.exit()
        print(pid, flush=True)
    else:
        ended = []
        try:
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                ended.append([found[0], os.waitstatus_to_exitcode(found[1])])
        except ChildProcessError:
            pass
        print(json.dumps(ended), flush=True)
"""


class Workers:
    """Processes that execute a study's runs, as far as they are not done; what they print goes to `out`."""

    def __init__(self, study: Path, notebooks: Path, out: Path):
        self.running: set[int] = set()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._parent = subprocess.Popen([sys.executable, "-c", PROGRAM, study, notebooks, out], **pipes)

    def start(self) -> int:
        """Start another one; gives its process id."""
        pid = int(self._ask("start"))
        self.running.add(pid)
        return pid

    def ended(self) -> dict[int, int]:
        """{process id: exit status, negative after a signal} of those that have ended since this was asked last."""
        found = dict(json.loads(self._ask("ended")))
        self.running -= found.keys()
        return found

    def close(self) -> None:
        """Kill what still runs, and the parent."""
        if self._parent.poll() is None:
            self.ended()
        for pid in self.running:
            os.kill(pid, signal.SIGKILL)
        self._parent.stdin.close()
        self._parent.wait(30)
        self._parent.stdout.close()

    def _ask(self, word: str) -> str:
        print(word, file=self._parent.stdin, flush=True)
        return self._parent.stdout.readline()
