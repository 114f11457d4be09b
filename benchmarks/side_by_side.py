"""Commands timed side by side: alternating rounds, medians."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]


def run(command: Sequence[str], folder: Path = ROOT, **environment: str) -> str:
    """Runs a command to its end and returns its standard output.

    Raises:
        RuntimeError: It failed; the message is what it printed.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def seconds(work: Callable[[], object]) -> float:
    """How long a function takes by the clock."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def alternating(
    works: Mapping[str, Callable[[], float]], rounds: int, say: Callable[[str], object] = print
) -> dict[str, float]:
    """The median in seconds of each work, all of them measured once in every round."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for number in range(1, rounds + 1):
        for name, work in works.items():
            found[name].append(work())
            say(f"round {number}: {name} {found[name][-1]:.2f} s")
    return {name: median(values) for name, values in found.items()}


def peak_memory(
    command: Sequence[str], folder: Path = ROOT, limit: int = -1, **environment: str
) -> tuple[float, float]:
    """Seconds and peak resident memory in MB of a command, its children left out.

    Args:
        command: The program and its arguments.
        folder: Where it runs.
        limit: The bytes that it may map; -1 for any number.
        environment: More variables for it.
    """
    script = (
        "import resource, subprocess, sys, time; started = time.perf_counter();"
        f"resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}));"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        "print(time.perf_counter() - started,"
        " resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    )
    out = run([sys.executable, "-c", script, *command], folder, **environment)
    elapsed, peak = out.split()[-2:]
    return float(elapsed), float(peak)
