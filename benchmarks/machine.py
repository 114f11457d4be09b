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
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
        pairs = (line.partition(":") for line in first.splitlines())
        fields = {name.strip(): value.strip() for name, _, value in pairs}
        if "model name" in fields:  # a virtual one may say no more than its make
            numbers = f"family {fields.get('cpu family')}, model {fields.get('model')}"
            return f"{fields['model name']} ({numbers})"
    return platform.processor() or platform.machine()
