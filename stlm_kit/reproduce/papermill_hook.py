"""What papermill loads of the kit, by the entry point `papermill.engine`: its own engine, and marks for its kernels.

A kernel cannot see which program started it, nor which notebook it executes. With the marks in its environment, a
notebook of the kit knows that papermill executes it and keeps its run in a folder (plain_papermill.py). Nothing else
changes. This module is light: papermill loads it for every notebook of an environment that holds the kit.
"""

from __future__ import annotations

import os

from papermill.engines import NBClientEngine, papermill_engines

os.environ["STLM_PAPERMILL"] = str(os.getpid())  # the process that imported papermill


class Engine(NBClientEngine):
    """papermill's own engine, which tells its kernels the notebook's path."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, **options):
        os.environ["STLM_NOTEBOOK"] = str(options.get("input_path") or "")
        return super().execute_managed_notebook(nb_man, kernel_name, **options)


papermill_engines.register(None, Engine)  # where no engine is asked for
