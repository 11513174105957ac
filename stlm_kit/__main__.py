"""`python -m stlm_kit` is `stlm`."""

import sys

from stlm_kit.cli import main

sys.exit(main())
