"""The program that becomes a submission's kernel: it limits itself, then runs ipykernel. Started, never imported.

    python -P limited_kernel.py '{"memory_mib": 4096, ...}' -f CONNECTION_FILE

Limits are per process (setrlimit). A limit this system does not know is left out; so is one that is set lower already.
"""

import json
import os
import sys

# A process may not use more than this: setrlimit's names, by the names of `course_file.Limits`.
NAMES = {"memory": "RLIMIT_AS", "file": "RLIMIT_FSIZE", "processes": "RLIMIT_NPROC", "seconds": "RLIMIT_CPU"}


def limit(values: dict[str, int]) -> None:
    """Set the soft and the hard limit of each: bytes of memory, bytes of a file, processes, seconds of work."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    for name, value in {**values, "core": 0}.items():
        number = getattr(resource, NAMES.get(name, "RLIMIT_CORE"), None)
        if number is None:
            continue
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(number, (value, value))
        except (OSError, ValueError):  # macOS refuses some of them
            continue


if __name__ == "__main__":
    limit(json.loads(sys.argv.pop(1)))
    if os.getppid() == 1:  # in the sandbox, whose first process ends with the grader; ipykernel takes it for an orphan
        os.environ.pop("JPY_PARENT_PID", None)
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()
