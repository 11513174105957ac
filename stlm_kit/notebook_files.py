"""Where the notebooks are, which of them are chapters, and a chapter's title and promise."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from stlm_kit.errors import KitError, UsageError, near
from stlm_kit.paths import project_dir


def notebooks_dir() -> Path:
    """The folder of the notebooks: the checkout's, or the installed package's copy. KitError without either."""
    for folder in (project_dir() / "notebooks", Path(__file__).resolve().parent.parent / "notebooks"):
        if folder.is_dir():
            return folder
    raise KitError("The notebooks are missing; install the kit again, or run this in a checkout of it.")


@dataclass(frozen=True)
class Chapter:
    """One numbered notebook of a course, such as 02_building_the_decoder.ipynb."""

    path: Path

    @property
    def name(self) -> str:
        """The file name without its suffix: "02_building_the_decoder"."""
        return self.path.stem

    @property
    def number(self) -> str:
        """The leading digits: "02"."""
        return self.name.split("_")[0]

    @cached_property
    def cells(self) -> list[dict]:
        """The cells as committed. KitError for a file that is not a notebook."""
        return read_cells(self.path)

    @property
    def title(self) -> str:
        """The first heading, without its # marks."""
        return self._opening()[0]

    @property
    def promise(self) -> str:
        """The first paragraph below the title: what the chapter promises."""
        return self._opening()[1]

    def _opening(self) -> tuple[str, str]:
        prose = "\n".join("".join(cell["source"]) for cell in self.cells[:2] if cell["cell_type"] == "markdown")
        match = re.search(r"^#\s+(.+?)\s*$", prose, re.MULTILINE)
        if not match:
            return self.name, ""
        paragraphs = [part.strip() for part in prose[match.end() :].split("\n\n") if part.strip()]
        return match[1], " ".join(paragraphs[0].split()) if paragraphs else ""

    def declares(self, parameter: str) -> bool:
        """Whether the cell tagged `parameters` assigns this name. A quick check without papermill."""
        source = "\n".join("".join(cell["source"]) for cell in self.cells if "parameters" in tags(cell))
        return re.search(rf"^{re.escape(parameter)}\s*[:=]", source, re.MULTILINE) is not None


def read_cells(path: Path) -> list[dict]:
    """A notebook's cells, with sources and texts joined into strings as nbformat does. KitError for any other file."""
    try:
        cells = json.loads(Path(path).read_text("utf-8"))["cells"]
        for cell in cells:
            cell["source"] = "".join(cell["source"])
            cell.setdefault("metadata", {})
        return cells
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KitError(f"{path} cannot be read as a notebook; open it in JupyterLab to see why.") from error


def first_line(source: str) -> str:
    """A cell's first line of code, to identify it, or ""."""
    lines = (line.strip() for line in source.splitlines())
    return next((line for line in lines if line and not line.startswith("#")), "")[:120]


def tags(cell: dict) -> list[str]:
    """A cell's tags."""
    return cell.get("metadata", {}).get("tags", [])


WIDGET = "application/vnd.jupyter.widget-view+json"


def without_widgets(notebook):
    """The notebook without its widgets, which do not work without a kernel. The figure beside each widget stays."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
    return notebook


def chapters(folder: Path | None = None) -> list[Chapter]:
    """The numbered notebooks of a folder (default: `notebooks_dir()`), in order."""
    folder = notebooks_dir() if folder is None else Path(folder)
    return [Chapter(path) for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))]


def find_chapter(name: str, among: list[Chapter]) -> Chapter | None:
    """The chapter called "02", "2", "building_the_decoder" or "02_building_the_decoder.ipynb", or None."""
    wanted = name.removesuffix(".ipynb").replace("-", "_")
    for chapter in among:
        rest = chapter.name.removeprefix(chapter.number).lstrip("_")
        if wanted in (chapter.name, rest) or (wanted.isdecimal() and int(wanted) == int(chapter.number)):
            return chapter
    return None


def find_chapters(names: list[str], folder: Path | None = None) -> list[Chapter]:
    """The named chapters, each once, in the order of the course; all of them where no name is given.

    Raises UsageError with similar names, KitError for a folder without chapters.
    """
    everything = chapters(folder)
    if not everything:
        where = folder or notebooks_dir()
        raise KitError(
            f"There is no chapter in {where}; chapters are notebooks named like 02_building_the_decoder.ipynb."
        )
    wanted = []
    for name in names:
        chapter = find_chapter(name, everything)
        if chapter is None:
            raise UsageError(f"There is no chapter {name!r}.{suggest(name, [each.name for each in everything])}")
        wanted.append(chapter)
    return [chapter for chapter in everything if chapter in wanted] if names else everything


def suggest(name: str, options: list[str]) -> str:
    """A sentence to append with the options similar to a wrong name, or with all of them."""
    return near(name, options) or f" There are {', '.join(options)}."
