"""What the watch costs a stage when it starts, and DVC when nothing changed, as ratios.

    python -m benchmarks.start [--rounds 15]

A start is: import the stage, read its settings, say what dvc.yaml declares, judge what was touched
so far; the other side imports and reads alone. Seconds are those of the processor, which a busy
machine stretches less than those of the clock.
"""

import argparse
import resource
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import machine, side_by_side, speed
from benchmarks.side_by_side import ROOT

STAGES = ("download", "normalize", "train", "evaluate", "plot")
START = """
import importlib, sys
watched, name = sys.argv[1] == "watched", "stages." + sys.argv[2]
if watched:
    sys.orig_argv[:] = [sys.executable, "-m", name]
stage = importlib.import_module(name)
from stages.lib.core import enforcement, recorded
if watched:
    with enforcement.unwatched():
        declared = recorded.declared()
    enforcement.judge(declared)
stage.read_settings()
if watched:
    enforcement.end()
"""


def processor_seconds(work: Callable[[], object]) -> float:
    """Seconds of the processor that the child processes of a piece of work take."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def start(kind: str, stage: str) -> float:
    """Seconds until a stage has read its settings, ``watched`` or not."""
    command = [sys.executable, "-c", START, kind, stage]
    return processor_seconds(lambda: side_by_side.run(command, ROOT))


def nothing_changed(rounds: int) -> dict[str, float]:
    """Seconds of a `dvc repro` that has nothing to do: five trivial stages, and these five."""
    dvc = [sys.executable, "-m", "dvc", "repro", "-q"]
    with tempfile.TemporaryDirectory() as folder:
        trivial = speed.five_trivial_stages(Path(folder) / "trivial", dvc)
        clone = Path(folder) / "clone"
        side_by_side.run(["git", "clone", "-q", str(ROOT), str(clone)])
        side_by_side.run(dvc, clone)
        works = {
            name: partial(processor_seconds, partial(side_by_side.run, dvc, path))
            for name, path in ((speed.FLOOR, trivial), ("nothing changed", clone))
        }
        return side_by_side.alternating(works, rounds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="alternating rounds")
    options = parser.parse_args(arguments)
    print("| start of | unwatched, s | watched, s | difference, ms |\n|---|---|---|---|")
    for stage in STAGES:
        works = {kind: partial(start, kind, stage) for kind in ("unwatched", "watched")}
        medians = side_by_side.alternating(works, options.rounds)
        before, after = medians["unwatched"], medians["watched"]
        print(f"| {stage} | {before:.3f} | {after:.3f} | {1000 * (after - before):.0f} |")
    print()
    print(speed.table("`dvc repro`", nothing_changed(options.rounds)))
    print(f"\nMedians of {options.rounds} alternating rounds. {machine.describe()}")


if __name__ == "__main__":
    main()
