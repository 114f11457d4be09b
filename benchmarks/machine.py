"""What a benchmark ran on."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path


def describe(*packages: str) -> str:
    """One sentence: processor, number of cores, Python and the versions of packages."""
    names = packages or ("tensorflow", "keras", "numpy", "dvc")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    return (
        f"{_processor()}, {cores()} cores, {platform.system()}; "
        f"Python {platform.python_version()}, {versions}."
    )


def cores() -> int:
    """The number of processor cores."""
    return os.cpu_count() or 1


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
