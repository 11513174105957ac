"""Where an answer comes from: the code that computes it, and the command that repeats it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from stlm_kit.errors import KitError
from stlm_kit.ledger.answers import functions
from stlm_kit.ledger.claims import Claim
from stlm_kit.notebook_files import chapters
from stlm_kit.reproduce.study_file import FULL_SIZE, load_study


def place_of(claim: Claim, answer: dict[str, Any] | None) -> str:
    """The function, preset, citation, run or chapter that an answer comes from, in words; "" without an answer."""
    if answer and "row" in answer:
        return f"the run {answer['row']}"
    if function := functions().get(claim.id):
        function = inspect.unwrap(function)
        package = Path(__file__).resolve().parents[2]
        file = Path(inspect.getsourcefile(function) or "")
        place = file.relative_to(package) if file.is_relative_to(package) else file
        return f"{function.__name__} in {place.as_posix()}"
    if claim.used_by:
        return claim.used_by
    if claim.cited:
        return claim.cited.source
    names = _chapters_of(claim)
    return f"chapter {' and '.join(names)}" if names else ""


def command_of(claim: Claim, answer: dict[str, Any] | None) -> str:
    """The command that answers a claim, again or for the first time; "" where the kit has none."""
    measure = load_study(claim.source).measures.get(claim.id)
    if measure and (claim.kind == "full_scale" or (answer and "row" in answer)):
        return f"stlm reproduce {claim.source} --profile {FULL_SIZE} --run {measure.run}"
    if (function := functions().get(claim.id)) and function.__module__.endswith(".on_gpu"):
        return "python benchmarks/gpu.py, then stlm ledger import gpu-rows/gpu.jsonl"
    if claim.id in functions() or claim.used_by or claim.cited:
        return f"stlm ledger {claim.id}"
    if names := _chapters_of(claim):
        return f"stlm reproduce {names[0].split('_')[0]}"
    return ""


def _chapters_of(claim: Claim) -> list[str]:
    """The chapters that record an answer to a claim."""
    found = []
    for chapter in chapters():
        try:
            code = "\n".join(cell["source"] for cell in chapter.cells if cell["cell_type"] == "code")
        except KitError:  # a damaged notebook records nothing
            continue
        if f'checks.ledger("{claim.id}"' in code or f'checks.ledger(\n    "{claim.id}"' in code:
            found.append(chapter.name)
    return found
