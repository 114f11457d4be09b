"""How many faults strike each stage, as docs/promises.md lists them.

    python -m tests.faults.counts [STAGE...]

Each stage runs once, undisturbed, and the operations on files that it asks for are counted: each of
them is struck in the tests in each mode, or for time in one mode in turn: in each one of all stages
with FAULTS=all. Prints a row of a Markdown table for each stage.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.conftest import ROOT
from tests.faults.injection import KINDS, MODES
from tests.faults.prepared import ENVIRONMENT, STAGES

ALL = os.environ.get("FAULTS") == "all"
IN_TURN = () if ALL else ("normalize", "train", "evaluate")  # struck in one way each
EVERY = {} if ALL else {("train", "write"): 4}  # of many alike, one after so many is struck


def modes(stage: str) -> tuple[str, ...]:
    """How the operations of a stage are struck; those of ``IN_TURN`` in these ways in turn."""
    return MODES if ALL or stage != "train" else ("fails", "dies")


def strikes(
    stage: str, counts: Mapping[str, int], modes: Sequence[str]
) -> Iterator[tuple[str, int, str]]:
    """Kind, number and mode of each fault: each operation in each mode, or in one in turn."""
    for kind, (at, mode) in itertools.product(KINDS, enumerate(modes)):
        every = EVERY.get((stage, kind), 1)
        first, step = (1 + at * every, len(modes) * every) if stage in IN_TURN else (1, every)
        for number in range(first, counts[kind] + 1, step):
            yield kind, number, mode


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
    faults = sum(1 for _ in strikes(stage, counts, modes(stage)))
    cells = [*(counts[kind] for kind in KINDS), sum(counts.values()), faults]
    return f"| {stage} | {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    for name in sys.argv[1:] or STAGES:
        print(row(name), flush=True)
