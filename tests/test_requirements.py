"""The requirement files agree with each other and with pyproject.toml."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "Makefile").is_file(), reason="needs a checkout")


def read(name: str) -> dict[str, Requirement]:
    lines = (line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    requirements = [Requirement(line) for line in lines if line]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def declared() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-data.txt", "requirements-gpu.txt"])
def test_requirement_files_pin_exactly(name):
    for requirement in read(name).values():
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement


def test_pyproject_has_lower_bounds_only():
    for requirement in declared().values():
        assert re.fullmatch(r">=[\w.]+", str(requirement.specifier)), requirement


def test_every_declared_dependency_is_pinned_within_its_bound():
    pinned = read("requirements.txt")
    for name, requirement in declared().items():
        version = next(iter(pinned[name].specifier)).version
        assert requirement.specifier.contains(version), f"{requirement} against {version}"


def test_the_users_card_is_pinned():
    card = {"jupyterlab", "torch", "datasets", "tokenizers", "matplotlib", "ipywidgets", "papermill", "nbval"}
    assert card <= read("requirements.txt").keys()
    assert "flash-attn" in read("requirements-gpu.txt")
    assert next(iter(read("requirements.txt")["torch"].specifier)).version == "2.13.0"


def test_what_is_installed_is_what_is_pinned():
    """The resolution holds together: each installed distribution's own demands are met by the pins."""
    pinned = read("requirements.txt")
    for name in pinned:
        for line in metadata.requires(name) or []:
            demand = Requirement(line)
            needed = canonicalize_name(demand.name)
            if needed in pinned and (demand.marker is None or demand.marker.evaluate({"extra": ""})):
                version = next(iter(pinned[needed].specifier)).version
                assert demand.specifier.contains(version, prereleases=True), f"{name} wants {demand}, pinned {version}"


def test_the_conda_environment_installs_the_same_file():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert [item for item in environment["dependencies"] if isinstance(item, dict)] == [
        {"pip": ["-r requirements.txt"]}
    ]
    assert "pip" in environment["dependencies"]
    assert any(str(item).startswith("python=3.") for item in environment["dependencies"])


def test_every_package_that_the_kit_imports_is_declared():
    """No import works by accident of another package's dependencies."""
    from stlm_kit.provenance import source_hash  # the package is importable where this runs

    assert source_hash()
    modules = metadata.packages_distributions()
    allowed = {canonicalize_name(name) for name in tomllib_dependencies()} | OPTIONAL
    for path in (ROOT / "stlm_kit").rglob("*.py"):
        for module in re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE):
            owners = {canonicalize_name(name) for name in modules.get(module, [])} - {"stlm-kit"}
            assert not owners or owners & allowed, f"{path.name} imports {module}, of {owners}"


OPTIONAL = {
    "transformers",
    "wandb",
    "tensorboard",
    "flash-attn",
    "speakleash",
    "ruff",
    "nbgrader",
    "traitlets",
    "sqlalchemy",
    "pyzmq",
}  # imported where they are used, with a sentence


def tomllib_dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(line).name for line in project["dependencies"]]
