"""The kernel that the runner starts: this interpreter's ipykernel, which ends with the runner.

A runner that is killed (kill -9, out of memory) cannot stop its kernel. If the kernel trained on, it would write into a
run that the next start has taken over. On Linux the system ends the kernel at once; elsewhere ipykernel notices within
a second that its parent is gone.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>: the signal to receive when the parent ends


def end_with_parent(number: signal.Signals | None = None) -> None:
    """Ask the system for a signal (default: SIGKILL) to this process when the process that started it ends."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number or signal.SIGKILL)
    if os.getppid() != int(os.environ.get("JPY_PARENT_PID") or os.getppid()):  # the parent ended before the request
        os._exit(1)


if __name__ == "__main__":
    end_with_parent()
    if sys.path and sys.path[0] in ("", str(Path.cwd())):  # `python -m` put it first, where it could hide a module
        del sys.path[0]
    from ipykernel import kernelapp

    kernelapp.launch_new_instance()
