"""How many faults strike each stage, as docs/promises.md lists them.

    python -m tests.faults.counts [STAGE...]

Each stage runs once, undisturbed, and the operations on files that it asks for are counted: each of
them is struck in the tests in each mode. Prints a row of a Markdown table for each stage.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conftest import ROOT
from tests.faults.injection import KINDS, MODES
from tests.faults.prepared import ENVIRONMENT, STAGES


def modes(stage: str) -> tuple[str, ...]:
    """How the operations of a stage are struck, each of a training's in one of two ways."""
    return MODES if stage != "train" else ("fails", "dies")


def count(stage: str) -> dict[str, int]:
    """The operations of each kind in one run of a stage."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.harness", stage, str(Path(folder) / "work")],
            cwd=ROOT,
            env={**os.environ, **ENVIRONMENT},
            stdout=subprocess.PIPE,
            encoding="utf-8",
            check=True,
        )
    counts: dict[str, int] = json.loads(done.stdout.splitlines()[-1])["counts"]
    return counts


def row(stage: str) -> str:
    """The row of the table for a stage: operations by kind, all of them, and the faults."""
    counts = count(stage)
    operations = sum(counts.values())
    faults = operations if stage == "train" else operations * len(modes(stage))
    cells = [*(counts[kind] for kind in KINDS), operations, faults]
    return f"| {stage} | {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    for name in sys.argv[1:] or STAGES:
        print(row(name), flush=True)
