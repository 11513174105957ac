"""What papermill loads from the kit by the entry point `papermill.engine`: its own engine, with marks for its kernels.

A kernel cannot see which program started it or which notebook it executes. With the marks in its environment, a
notebook of the kit knows that papermill executes it and keeps its run in a folder (plain_papermill.py). Nothing else
changes. This module imports little, because papermill loads it for every notebook in an environment with the kit.
"""

from __future__ import annotations

import os

from papermill.engines import NBClientEngine, papermill_engines

os.environ["STLM_PAPERMILL"] = str(os.getpid())  # the process that imported papermill


class Engine(NBClientEngine):
    """papermill's own engine, which passes the notebook's path to its kernels."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, **options):
        """Execute as papermill does, with the notebook's path in the environment."""
        os.environ["STLM_NOTEBOOK"] = str(options.get("input_path") or "")
        return super().execute_managed_notebook(nb_man, kernel_name, **options)


papermill_engines.register(None, Engine)  # for calls that name no engine
