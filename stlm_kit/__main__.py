"""`python -m stlm_kit`, the same as `stlm`."""

import sys

from stlm_kit.cli import main
from stlm_kit.interrupts import ignored_from_now_on


def run() -> None:
    """What the program `stlm` and `python -m stlm_kit` run."""
    status = main()
    ignored_from_now_on()
    sys.exit(status)


if __name__ == "__main__":
    run()
