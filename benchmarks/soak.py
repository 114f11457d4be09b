"""Many short experiments through DVC's queue, whose stages are killed at random.

    python -m benchmarks.soak [--experiments 20] [--kills 40] [--seed 1]

In a clone, one experiment a seed of the training goes through `dvc queue` with two workers, while
stages that run are killed with SIGKILL at random instants. What failed is queued again. In another
clone each experiment runs undisturbed. Prints how many recorded results differ from those, and how
many temporary files are left; ends with status 1 if there is one.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped] # it comes with DVC, and has no types
import yaml

from benchmarks.side_by_side import ROOT
from stages.lib.core import files

RECORDED = (
    "dvc.lock",
    "params.yaml",
    "reports/evaluate/metrics.json",
    "reports/train/history.csv",
    "reports/train/metrics.json",
)
PAUSES = (1.0, 8.0)  # seconds between two kills, drawn evenly


def run(folder: Path, *command: str, check: bool = True) -> str:
    """What a command in a folder prints."""
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=False)
    if check and done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def clone(folder: Path) -> Path:
    """A clone of this repository with a short training, committed."""
    run(ROOT, "git", "clone", "-q", str(ROOT), str(folder))
    set_param(folder, "epochs", 5)
    identity = ("-c", "user.name=Soak", "-c", "user.email=soak@example.org")
    run(folder, "git", *identity, "commit", "-qam", "A short training")
    return folder


def set_param(folder: Path, name: str, value: int) -> None:
    """Changes one key of the section train."""
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["train"][name] = value
    files.write_text(path, yaml.safe_dump(params, sort_keys=False))


def recorded(folder: Path, revision: str) -> dict[str, str]:
    """The content of each file that Git keeps of an experiment, the parameters as they are meant."""
    texts = {name: run(folder, "git", "show", f"{revision}:{name}") for name in RECORDED}
    texts["params.yaml"] = json.dumps(yaml.safe_load(texts["params.yaml"]), sort_keys=True)
    return texts


def running_stages(folder: Path) -> Iterator[psutil.Process]:
    """The processes of stages that work somewhere in a folder."""
    for process in psutil.process_iter():
        try:
            stage = any(part.startswith("stages.") for part in process.cmdline()[1:3])
            if stage and Path(process.cwd()).is_relative_to(folder):
                yield process
        except psutil.Error:  # it has ended since, or belongs to somebody else
            continue


def tasks(folder: Path) -> list[str]:
    """The states of all tasks of the queue."""
    lines = run(folder, "dvc", "queue", "status").splitlines()
    states = ("Queued", "Running", "Failed", "Success")
    return [state for line in lines for state in states if state in line.split()]


def soak(folder: Path, seeds: Sequence[int], kills: int, chance: random.Random) -> int:
    """Runs all experiments through the queue, again until each is there; returns the kills made."""
    made, attempt = 0, 0
    missing = list(seeds)
    while missing:
        attempt += 1
        for seed in missing:
            run(folder, "dvc", "exp", "run", "-q", "--queue", "-n", f"seed-{seed}-{attempt}",
                "-S", f"train.seed={seed}")  # fmt: skip
        run(folder, "dvc", "queue", "start", "-j", "2")
        checked = time.monotonic()
        while True:
            time.sleep(chance.uniform(*PAUSES))
            stages = list(running_stages(folder))
            if stages and made < kills:
                chance.choice(stages).kill()
                made += 1
            if time.monotonic() - checked > 15 or not stages:
                checked = time.monotonic()
                if not {"Queued", "Running"} & set(tasks(folder)):
                    break
        have = {name.split("-")[1] for name in experiments(folder)}
        missing = [seed for seed in seeds if str(seed) not in have]
        print(f"Attempt {attempt}: {made} kills, {len(missing)} experiments missing", flush=True)
    return made


def experiments(folder: Path) -> dict[str, str]:
    """The revision of each recorded experiment by its name."""
    listing = run(folder, "git", "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps")
    pairs = [line.split() for line in listing.splitlines()]
    return {
        name.rpartition("/")[2]: revision
        for revision, name in pairs
        if name.rpartition("/")[2].startswith("seed-")
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Soaks, compares and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=20)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    seeds = range(1, options.experiments + 1)
    with tempfile.TemporaryDirectory() as work:
        os.environ["DVC_SITE_CACHE_DIR"] = f"{work}/site"
        queued, clean = clone(Path(work) / "queued"), clone(Path(work) / "clean")
        start = time.monotonic()
        made = soak(queued, seeds, options.kills, random.Random(options.seed))  # noqa: S311
        minutes = (time.monotonic() - start) / 60
        run(queued, "dvc", "queue", "stop")
        left = [path for path in queued.rglob("*.tmp") if ".git" not in path.parts]
        wanted = {}
        for seed in seeds:
            set_param(clean, "seed", seed)
            run(clean, "dvc", "repro")
            run(
                clean, "git", "-c", "user.name=S", "-c", "user.email=s@x.org", "commit", "-qam", "x"
            )
            wanted[seed] = recorded(clean, "HEAD")
        found = experiments(queued)
        wrong = [
            f"{name}: {file}"
            for name, revision in found.items()
            for file, text in recorded(queued, revision).items()
            if text != wanted[int(name.split("-")[1])][file]
        ]
        print(
            f"{len(found)} recorded results of {len(seeds)} experiments in {minutes:.1f} minutes, "
            f"{made} kills; {len(wrong)} differ from a clean run's, {len(left)} temporary files left"
        )
        for line in [*wrong, *map(str, left)]:
            print(f"  {line}")
    if wrong or left:
        sys.exit(1)


if __name__ == "__main__":
    main()
