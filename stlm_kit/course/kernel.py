"""One kernel in a sandbox, driven cell by cell: what a cell printed, how it ended, and whether the kernel lives on."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty

import zmq
from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbformat import NotebookNode
from nbformat.v4 import new_output, output_from_msg

from stlm_kit.course import sandbox
from stlm_kit.course.assignment import assignments_dir
from stlm_kit.course.course_file import Limits
from stlm_kit.errors import KitError

GRACE = 3.0  # seconds that an interrupted cell has to come to an end
START = 120.0  # seconds that a kernel has to answer for the first time
MESSAGE_BYTES = 16 * 2**20  # a longer message from a kernel breaks its connection instead of filling our memory
OUTPUTS = {"stream", "display_data", "execute_result", "error"}


class Stopped(Exception):
    """Somebody asked for everything to stop."""


@dataclass
class Outcome:
    """How one cell went: "ok", "error", "timeout" (stopped, the kernel lives on) or "dead" (the kernel is gone)."""

    status: str
    outputs: list[NotebookNode] = field(default_factory=list)
    why: str = ""


class Kernel:
    """A kernel of its own, in a disposable folder that goes with it. Use it in a `with` statement."""

    def __init__(self, limits: Limits, locked_in: bool, stop: threading.Event | None = None) -> None:
        self.limits = limits
        self._stop = stop or threading.Event()
        self.folder = Path(tempfile.mkdtemp(prefix="stlm-desk-")).resolve()
        for path in assignments_dir().glob("*/exercises.yaml"):  # the desk's public rules, and nothing else of them
            (self.folder / "rules" / path.parent.name).mkdir(parents=True)
            shutil.copy(path, self.folder / "rules" / path.parent.name)
        spec = KernelSpec(
            argv=sandbox.kernel_command(self.folder, limits, locked_in),
            display_name="Python 3",
            language="python",
            interrupt_mode="message",  # a signal would end bubblewrap itself
        )
        context = zmq.Context()
        context.setsockopt(zmq.MAXMSGSIZE, MESSAGE_BYTES)
        self._manager = KernelManager(
            kernel_spec_manager=_OneSpec(spec),
            connection_file=str(self.folder / "k.json"),
            transport="ipc" if locked_in else "tcp",  # no network in the sandbox, so sockets in its folder
            context=context,
        )
        self._client = None

    def __enter__(self) -> Kernel:
        try:
            where = {"env": sandbox.environment(self.folder), "cwd": str(self.folder)}
            self._manager.start_kernel(**where, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self._client = self._manager.client()
            self._client.start_channels(stdin=False)
            self._client.wait_for_ready(timeout=START)
        except (RuntimeError, OSError) as error:
            self.close()
            raise KitError(f"A kernel for grading could not be started: {error}.") from error
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the kernel with everything it started, and remove its folder."""
        if self._client is not None:
            self._client.stop_channels()
        if self._manager.has_kernel:
            self._manager.shutdown_kernel(now=True)
        self._manager.context.destroy(linger=0)
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, code: str, seconds: float, *, remember: bool = True) -> Outcome:
        """Run a cell for at most `seconds`. remember: whether the notebook's `In` keeps its source. Raises Stopped."""
        request = self._client.execute(code, allow_stdin=False, stop_on_error=False, store_history=remember)
        paper = _Paper(self.limits.output_kib * 1024)
        if status := self._wait(request, paper, time.monotonic() + seconds):
            return self._finished(request, status, paper)
        self._manager.interrupt_kernel()
        stopped = self._wait(request, _Paper(0), time.monotonic() + GRACE)
        why = f"stopped after {seconds:.0f} s, the time a cell has"
        return Outcome("timeout" if stopped == "idle" else "dead", paper.outputs, why)

    def _wait(self, request: str, paper: _Paper, deadline: float) -> str:
        """Collect the cell's outputs; "idle" once it has ended, "dead" once the kernel has, "" at the deadline."""
        while time.monotonic() < deadline:
            try:
                message = self._client.get_iopub_msg(timeout=min(0.2, max(0.0, deadline - time.monotonic())))
            except Empty:
                if self._stop.is_set():
                    raise Stopped from None
                if not self._manager.is_alive():
                    return "dead"
                continue
            kind, content = message["header"]["msg_type"], message["content"]
            if message["parent_header"].get("msg_id") != request:
                continue
            if kind == "status" and content.get("execution_state") == "idle":
                return "idle"
            if kind in OUTPUTS:
                paper.take(message)
        return ""

    def _finished(self, request: str, status: str, paper: _Paper) -> Outcome:
        reply = self._reply(request) if status == "idle" else None
        if reply is None:
            return Outcome("dead", paper.outputs, "ended the Python process")
        if any(each.get("source") == "ask_exit" for each in reply.get("payload", [])):
            return Outcome("dead", paper.outputs, "called exit")
        if reply["status"] == "error":
            if not any(output.output_type == "error" for output in paper.outputs):  # shown to nobody, or cut off
                paper.outputs.append(error(reply.get("ename", "Error"), reply.get("evalue", "")))
            return Outcome("error", paper.outputs)
        return Outcome("ok", paper.outputs)

    def _reply(self, request: str) -> dict | None:
        """The reply to a cell that has ended; None where the kernel went away before it came."""
        while True:
            try:
                message = self._client.get_shell_msg(timeout=GRACE)
            except Empty:
                return None
            if message["parent_header"].get("msg_id") == request:
                return message["content"]


def error(name: str, sentence: str) -> NotebookNode:
    """An output that nbgrader takes for a failure."""
    return new_output("error", ename=name, evalue=sentence, traceback=[f"{name}: {sentence}"])


class _Paper:
    """A cell's outputs, up to a number of bytes; what comes after is dropped, and said to be."""

    def __init__(self, room: int) -> None:
        self.outputs: list[NotebookNode] = []
        self._room = room

    def take(self, message: dict) -> None:
        kind = message["header"]["msg_type"]
        if self._room <= 0 and kind != "error":
            return
        output = output_from_msg(message)
        self._room -= len(str(output))
        if self._room <= 0 and kind != "error":
            output = new_output("stream", name="stdout", text="... the rest of the output was cut off\n")
        self.outputs.append(output)


class _OneSpec(KernelSpecManager):
    """Jupyter's list of kernels, with one on it."""

    def __init__(self, spec: KernelSpec) -> None:
        super().__init__()
        self._spec = spec

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return self._spec
