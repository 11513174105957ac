"""One cluster for all tests of this folder."""

import os

import pytest
from one_node import Cluster, missing


@pytest.fixture(scope="session")
def cluster():
    if why := missing():
        (pytest.fail if os.environ.get("STLM_REQUIRE_TOOLS") and os.geteuid() == 0 else pytest.skip)(why)
    found = Cluster()
    try:
        found.start()
        yield found
    finally:
        found.end()


@pytest.fixture(autouse=True)
def _runs_of_its_own(runs):
    """No test of this folder reads or writes the reader's runs."""
