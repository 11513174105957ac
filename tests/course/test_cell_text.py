"""Cells taken apart, in many threads at once as in a class graded side by side."""

import subprocess
import sys
import textwrap
from pathlib import Path

import stlm_kit.course.cell_text

# A garbage collection in the middle of a parse hands over to the next thread, which parses too.
AT_ONCE = """
    import gc, sys, threading, time
    from stlm_kit.course.cell_text import cut_definition, defined, split

    source, failures = open(sys.argv[1], encoding="utf-8").read(), []
    sys.setswitchinterval(1e-6)
    gc.callbacks.append(lambda *_: time.sleep(1e-4))
    gc.set_threshold(50)

    def work():
        for _ in range(12):
            try:
                found = sorted(defined(source))
                assert "split" in found and len(split(source, found)) == len(found)
                assert "\\ndef split" not in cut_definition(source, "split")
            except Exception as error:
                failures.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=work) for _ in range(4)]
    [each.start() for each in threads], [each.join() for each in threads]
    print("\\n".join(failures))
"""


def test_four_threads_take_cells_apart_at_once():
    script = textwrap.dedent(AT_ONCE)
    source = Path(stlm_kit.course.cell_text.__file__)
    done = subprocess.run([sys.executable, "-c", script, source], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
