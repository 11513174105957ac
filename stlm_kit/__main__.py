"""`python -m stlm_kit`, the same as `stlm`."""

import sys

from stlm_kit.cli import main
from stlm_kit.interrupts import ignored_from_now_on


def run() -> None:
    """Run the command line and exit with its status: `stlm` and `python -m stlm_kit` both call this."""
    status = main()
    ignored_from_now_on()
    sys.exit(status)


if __name__ == "__main__":
    run()
