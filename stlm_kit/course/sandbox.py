"""Where a submission's code may run: bubblewrap's arguments, and whether bubblewrap works here.

In the sandbox there is no network, no other process, no home and no checkout: only Python, its libraries, this package
and one disposable folder, the only thing that can be written. What the teacher has (sources, hidden tests, gradebook,
other submissions) is not in it at all. Where bubblewrap is missing the same kernel runs without it, and the caller says
so aloud.
"""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import stlm_kit
from stlm_kit.course.course_file import Limits

DEBIAN_PACKAGE = "bubblewrap"
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime")
PACKAGE = Path(stlm_kit.__file__).resolve().parent
KERNEL = PACKAGE / "course" / "limited_kernel.py"
MIB = 2**20


@cache
def missing() -> str:
    """Why submissions cannot be locked in here, as a sentence; "" where bubblewrap is installed and works."""
    if not shutil.which("bwrap"):
        return f"bubblewrap is not installed (Debian and Ubuntu: apt install {DEBIAN_PACKAGE})."
    with tempfile.TemporaryDirectory(prefix="stlm-probe-") as folder:
        command = [*wrapper(Path(folder)), sys.executable, "-c", "import json"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(Path(folder)))
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"bubblewrap is installed but does not start: {error}."
    first = next(iter(done.stderr.strip().splitlines()), f"exit status {done.returncode}")
    return f"bubblewrap is installed, but this system does not let it work ({first})." if done.returncode else ""


def kernel_command(folder: Path, limits: Limits, locked_in: bool) -> list[str]:
    """The command of a kernel that may write `folder` alone; {connection_file} is left for Jupyter to fill in."""
    bounds = {
        "memory": limits.memory_mib * MIB,
        "file": limits.file_mib * MIB,
        "processes": limits.processes,
        "seconds": 2 * limits.total_seconds + 60,  # the clock on the wall comes first; this ends what it lost
    }
    kernel = [sys.executable, "-P", str(KERNEL), json.dumps(bounds), "-f", "{connection_file}"]
    quiet = ["--HistoryManager.enabled=False", "--IPKernelApp.log_level=CRITICAL"]
    return [*(wrapper(folder) if locked_in else []), *kernel, *quiet]


def wrapper(folder: Path) -> list[str]:
    """bubblewrap's arguments, to be put before a command; later ones cover earlier ones."""
    arguments = [shutil.which("bwrap") or "bwrap", "--die-with-parent", "--cap-drop", "ALL", "--hostname", "desk"]
    arguments += [f"--unshare-{what}" for what in ("user", "pid", "net", "ipc", "uts", "cgroup-try")]
    for path in map(Path, SYSTEM):
        if path.is_symlink():  # /bin -> usr/bin
            arguments += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), str(path)]
    for path in filter(os.path.exists, SYSTEM_FILES):
        arguments += ["--ro-bind", path, path]
    arguments += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    arguments += ["--ro-bind-try", "/sys/devices/system/cpu", "/sys/devices/system/cpu"]
    for path in _python_folders():
        arguments += ["--ro-bind", path, path]
    for path in _copies_of_the_assignments():
        arguments += ["--tmpfs", path]
    arguments += ["--bind", str(folder), str(folder), "--chdir", str(folder)]
    for path in ("/tmp", "/dev", "/"):  # what bubblewrap made on the way is memory that would fill
        arguments += ["--remount-ro", path]
    return [*arguments, "--"]


def environment(folder: Path) -> dict[str, str]:
    """The kernel's environment: nothing of the teacher's, not even COURSE_KEY; every cache lies in `folder`."""
    kept = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT")
    names = {name: os.environ[name] for name in kept if name in os.environ}
    inside = {"HOME": ".", "TMPDIR": "tmp", "TEMP": "tmp", "IPYTHONDIR": "ipython", "JUPYTER_CONFIG_DIR": "jupyter"}
    inside |= {"MPLCONFIGDIR": "matplotlib", "STLM_RUNS": "runs", "STLM_CACHE": "cache", "STLM_ASSIGNMENTS": "rules"}
    for place in inside.values():
        (folder / place).mkdir(exist_ok=True)
    names |= {name: str((folder / place).resolve()) for name, place in inside.items()}
    names |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    names["PYTHONPATH"] = str(PACKAGE.parent)  # this very kit, whatever else is installed
    if site.ENABLE_USER_SITE:  # HOME has moved; libraries installed for the user have not
        names["PYTHONUSERBASE"] = site.getuserbase()
    return names | {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg", "PYTHONDONTWRITEBYTECODE": "1", "USER": "student"}


def _python_folders() -> list[str]:
    """What Python and the kit need: interpreter, libraries, this package. Not the checkout around it."""
    wanted = [Path(sys.prefix), Path(sys.base_prefix), PACKAGE, *map(Path, site.getsitepackages())]
    wanted += [Path(site.getusersitepackages())] if site.ENABLE_USER_SITE else []
    link = Path(sys.executable)
    while link.is_symlink():  # an environment's python is a link to a link to the interpreter
        link = Path(os.path.normpath(link.parent / link.readlink()))
        wanted.append(link.parent.parent)
    found = dict.fromkeys(str(each) for path in wanted for each in (path, path.resolve()) if path.is_dir())
    return [path for path in found if not f"{path}/".startswith(tuple(f"{system}/" for system in SYSTEM))]


def _copies_of_the_assignments() -> list[str]:
    """Where an installed kit brings the assignments along, hidden tests and all."""
    homes = {PACKAGE, *(Path(path) / PACKAGE.name for path in site.getsitepackages())}
    return [str(home / "notebooks" / "assignments") for home in homes if (home / "notebooks" / "assignments").is_dir()]
