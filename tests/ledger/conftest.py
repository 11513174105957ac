import pytest


@pytest.fixture(autouse=True)
def _runs_of_its_own(runs):
    """No test of this folder reads or writes the reader's runs."""
