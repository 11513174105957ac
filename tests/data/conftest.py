import pytest


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(session_cache, monkeypatch):
    """Every test of the data room keeps its caches away from the user's; the session shares trained tokenizers."""
    monkeypatch.setenv("STLM_CACHE", str(session_cache))
    return session_cache


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
