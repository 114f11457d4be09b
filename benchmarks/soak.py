"""Many short experiments through DVC's queue, whose stages are killed at random.

    python -m benchmarks.soak [--experiments 100] [--kills 100] [--seed 1]
        [--minutes 600] [--folder FOLDER]

In a clone, one experiment a seed of the training goes through `dvc queue` with two workers, while
one stage in four is killed with SIGKILL, each after a random time of a processor, which a busy
machine does not change. What failed is queued again. In another clone each experiment runs
undisturbed. Prints how many recorded results differ from those, how many temporary files are left,
and what `dvc gc` keeps beyond what it should, or drops below; ends with status 1 if any of these is
not 0. After so many MINUTES it compares what has been recorded by then; a run in the same FOLDER
goes on where the last one ended.
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped] # it comes with DVC, and has no types
import yaml

from benchmarks.side_by_side import ROOT
from stages.lib.core import files, pipeline

RECORDED = (
    "dvc.lock",
    "params.yaml",
    "reports/evaluate/metrics.json",
    "reports/train/history.csv",
    "reports/train/metrics.json",
)
IDENTITY = ("-c", "user.name=Soak", "-c", "user.email=soak@example.org")
KILLED = 0.25  # of the stages
LIFE = 6.0  # seconds of a processor, by which a stage that is killed is so, wherever it is then


def run(folder: Path, *command: str) -> str:
    """What a command in a folder prints; the program ends where it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def clone(folder: Path) -> Path:
    """A clone of this repository with a short training, committed; an old one stays as it is."""
    if not folder.exists():
        run(ROOT, "git", "clone", "-q", str(ROOT), str(folder))
        set_param(folder, "epochs", 2)
        commit(folder, "A short training")
    return folder


def commit(folder: Path, message: str) -> None:
    """Commits every changed file that Git tracks."""
    run(folder, "git", *IDENTITY, "commit", "-qam", message)


def set_param(folder: Path, name: str, value: int) -> None:
    """Changes one key of the section train."""
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["train"][name] = value
    files.write_text(path, yaml.safe_dump(params, sort_keys=False))


def recorded(folder: Path, revision: str) -> dict[str, str]:
    """The content of each file that Git keeps of an experiment, its parameters as values."""
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


def used_up(process: psutil.Process, life: float) -> bool:
    """Kills a process that has had as many seconds of a processor, and says whether it did."""
    try:
        times = process.cpu_times()
        if times.user + times.system < life:
            return False
        process.kill()
    except psutil.Error:  # it has ended since
        return False
    return True


def busy(folder: Path) -> bool:
    """Whether a task of the queue waits or runs."""
    lines = run(folder, "dvc", "queue", "status").splitlines()
    return any({"Queued", "Running"} & set(line.split()) for line in lines)


def start_workers(folder: Path) -> None:
    """Starts two workers, which go on in the background and end where nothing is left to do."""
    subprocess.run(
        ["dvc", "queue", "start", "-j", "2"],
        cwd=folder,
        stdout=subprocess.DEVNULL,  # a worker would hold the pipes of a command that is read
        stderr=subprocess.DEVNULL,
        check=True,
    )


def soak(folder: Path, seeds: Sequence[int], kills: int, chance: random.Random, end: float) -> int:
    """Runs all experiments through the queue, again until each is there; returns the kills made.

    Args:
        folder: The clone.
        seeds: Those of the experiments.
        kills: How many stages are killed at the most.
        chance: Draws which one is killed, and when.
        end: The time of ``time.monotonic`` at which it stops, whatever is missing.
    """
    count = folder.parent / "kills"
    made = int(count.read_text()) if count.exists() else 0
    lives: dict[psutil.Process, float] = {}
    while missing := sorted({*seeds} - {*experiments(folder).values()}):
        print(f"{made} kills, {len(missing)} experiments missing", flush=True)
        if not busy(folder):
            values = ",".join(map(str, missing))
            run(folder, "dvc", "exp", "run", "--queue", "-S", f"train.seed={values}", "evaluate")
        start_workers(folder)
        seen = time.monotonic()
        while True:
            if time.monotonic() > end:
                run(folder, "dvc", "queue", "stop", "--kill")
                return made
            time.sleep(0.5)
            for process in running_stages(folder):
                seen = time.monotonic()
                life = math.inf if chance.random() > KILLED else chance.uniform(0, LIFE)
                if made < kills and used_up(process, lives.setdefault(process, life)):
                    made += 1
                    count.write_text(str(made))
            if time.monotonic() - seen > 10:  # asked seldom: it takes seconds
                seen = time.monotonic()
                if not busy(folder):
                    break
    return made


def experiments(folder: Path) -> dict[str, int]:
    """The seed of the training of each recorded experiment by its revision."""
    pattern = "refs/exps/??/**"
    revisions = run(folder, "git", "for-each-ref", "--format=%(objectname)", pattern).split()
    return {
        revision: yaml.safe_load(run(folder, "git", "show", f"{revision}:params.yaml"))["train"][
            "seed"
        ]
        for revision in revisions
    }


def undisturbed(folder: Path, seed: int) -> dict[str, str]:
    """What one experiment records where nobody kills it."""
    tag = f"seed-{seed}"
    if tag not in run(folder, "git", "tag").split():
        set_param(folder, "seed", seed)
        run(folder, "dvc", "repro", "evaluate")
        if run(folder, "git", "status", "--porcelain", "-uno"):
            commit(folder, tag)
        run(folder, "git", "tag", tag)
    return recorded(folder, tag)


def cached(folder: Path) -> set[str]:
    """The hash of each file and folder in the cache of a clone."""
    store = folder / ".dvc/cache/files/md5"
    return {path.parent.name + path.name for path in store.glob("*/*")}


def used(folder: Path, revisions: Iterable[str]) -> set[str]:
    """The hashes of the cache that these revisions name, or the work tree where one is empty.

    What Git keeps is in dvc.lock too; DVC caches it for its runs alone, and may drop it.
    """
    store, hashes = folder / ".dvc/cache/files/md5", set[str]()
    outs = [out for stage in pipeline.load(folder).values() for out in stage.outs]
    in_cache = {out.path for out in outs if out.cached}
    for revision in revisions:
        text = run(folder, "git", "show", f"{revision}:dvc.lock") if revision else ""
        lock: dict[str, Any] = yaml.safe_load(text or (folder / "dvc.lock").read_text("utf-8"))
        hashes |= {
            out["md5"]
            for stage in lock["stages"].values()
            for out in stage["outs"]
            if out["path"] in in_cache
        }
    for name in [name for name in hashes if name.endswith(".dir")]:
        path = store / name[:2] / name[2:]
        if path.exists():
            hashes |= {entry["md5"] for entry in json.loads(path.read_text("utf-8"))}
    return hashes


def collect(folder: Path, revisions: Sequence[str]) -> list[str]:
    """What `dvc gc` keeps that it should drop and drops that it should keep, in two ways to ask."""
    problems = []
    for options, kept in ((["--all-experiments"], ["", *revisions]), ([], [""])):
        before, wanted = cached(folder), used(folder, kept)
        run(folder, "dvc", "gc", "--force", "--workspace", *options)
        after = cached(folder)
        name = " ".join(["dvc gc --workspace", *options])
        print(f"{name}: {len(before)} files in the cache, then {len(after)}", flush=True)
        problems += [f"{name} keeps {item}" for item in sorted(after - wanted)]
        problems += [f"{name} drops {item}" for item in sorted((wanted & before) - after)]
    return problems


def main(arguments: Sequence[str] | None = None) -> None:
    """Soaks, compares and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=100, help="one a seed of the training")
    parser.add_argument("--kills", type=int, default=100, help="kills of stages")
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn")
    parser.add_argument("--minutes", type=float, default=600, help="ends after so many")
    parser.add_argument("--folder", type=Path, help="for the clones; a temporary one if none")
    options = parser.parse_args(arguments)
    seeds = range(1, options.experiments + 1)
    with tempfile.TemporaryDirectory() as temporary:
        work: Path = (options.folder or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        os.environ["DVC_SITE_CACHE_DIR"] = f"{work}/site"
        queued, clean = clone(work / "queued"), clone(work / "clean")
        start = time.monotonic()
        chance = random.Random(options.seed)  # noqa: S311
        made = soak(queued, seeds, options.kills, chance, start + options.minutes * 60)
        minutes = (time.monotonic() - start) / 60
        run(queued, "dvc", "queue", "stop")
        left = [path for path in queued.rglob("*.tmp") if ".git" not in path.parts]
        results = experiments(queued)
        differ = []
        for revision, seed in sorted(results.items(), key=lambda item: item[1]):
            expected = undisturbed(clean, seed)
            actual = recorded(queued, revision)
            differ += [f"seed {seed}: {n}" for n in RECORDED if actual[n] != expected[n]]
            print(f"Seed {seed} compared, {len(differ)} differ", flush=True)
        problems = collect(queued, list(results))
        print(
            f"{len(results)} recorded results of {len(seeds)} experiments in {minutes:.1f} minutes,"
            f" {made} kills; {len(differ)} differ from clean runs'; {len(left)} temporary files"
            f" left; {len(problems)} objects that dvc gc should not have kept or dropped"
        )
        for line in [*differ, *map(str, left), *problems]:
            print(f"  {line}")
    if differ or left or problems:
        sys.exit(1)


if __name__ == "__main__":
    main()
