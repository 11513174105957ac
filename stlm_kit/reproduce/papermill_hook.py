"""What papermill loads of the kit, by the entry point `papermill.engine`: a mark that the kernels it starts inherit.

A kernel cannot see which program started it. With the mark, a notebook of the kit knows that papermill executes it even
where it was given no parameters, and keeps its run in a folder (plain_papermill.py). This module is light: papermill
loads it for every notebook of an environment that holds the kit. Nothing else imports it.
"""

from __future__ import annotations

import os

os.environ["STLM_PAPERMILL"] = str(os.getpid())  # the process that imported papermill


def __getattr__(name: str):
    """An entry point must name an engine; this one is papermill's own."""
    from papermill.engines import NBClientEngine

    return getattr(NBClientEngine, name)
