"""Trains with several seeds: ``python -m tools.seeds N [REV]``, and shows how far they spread.

N trainings, ``train.seed`` and the N - 1 numbers after it, are made by ``dvc repro`` in temporary
copies of the work tree or of a revision, which share the work tree's DVC cache: what the run cache
holds is not trained again, and what ends here is in it, for ``python -m tools.compare``. The work
tree stays as it is. Exit status: 0, 1 on an error, 2 on a wrong option, 130 when interrupted.
"""

import argparse
import collections
import concurrent.futures
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from stages.lib.core import config, pipeline, yaml_file
from stages.lib.core.errors import UserError
from stages.lib.wording import percent
from tools.compare import dvc_state, evidence, revisions, scores, sides
from tools.compare.sides import Labels
from tools.lib import command
from tools.lib.git import git

MOST = 100
_LAST_SEED = 4_294_967_295
_LOG_LINES = 12  # of a failed run that are shown


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes sure that the trainings exist; gives the exit status."""
    options = _parser().parse_args(arguments)
    return command.ended(
        lambda: _run(options.count, options.revision, options.jobs),
        "Interrupted: the same command goes on after the last training.",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.seeds",
        description="Makes sure that N trainings with different seeds are in DVC's cache.",
        epilog="Example: python -m tools.seeds 3 main",
    )
    parser.add_argument("count", type=_number, metavar="N", help=f"trainings, 1 to {MOST}")
    parser.add_argument(
        "revision", nargs="?", metavar="REV", help="a commit, branch or tag (default: work tree)"
    )
    parser.add_argument(
        "--jobs", type=_number, default=1, metavar="J", help="trainings at a time (default: 1)"
    )
    return parser


def _number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"expected 1 to {MOST}, found {text}")
    return int(text)


def _run(count: int, revision: str | None, jobs: int) -> None:
    tree = revisions.work_tree()
    cache = dvc_state.cache_folder()
    base = revisions.find_base(revision) if revision else None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folders = [Path(temporary) / str(at) for at in range(1, min(jobs, count) + 1)]
        try:
            _copy(base.commit if base else None, folders[0])
            _forget_lost(folders[0], cache)
            seeds = _seeds(folders[0], count)
            for folder in folders[1:]:
                shutil.copytree(folders[0], folder)
            for folder in folders:
                _share_cache(folder, cache)
                _check_out(folder)
            trained = _train(seeds, folders)
        except UserError as error:  # of a file that the copy has from here, or from the commit
            place = re.compile(rf"{re.escape(temporary)}[\\/]\d+[\\/]")
            raise UserError(place.sub(f"{base.short}:" if base else "", str(error))) from None
    print(_spread(base.short if base else f"the work tree at {tree.commit[:7]}", trained))


def _copy(commit: str | None, folder: Path) -> None:
    """The files of a commit, or those of the work tree that Git tracks or does not ignore."""
    if commit:
        revisions.export(commit, folder)
    else:
        names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout
        for name in dict.fromkeys(names.decode(errors="surrogateescape").split("\0")):
            if name and Path(name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(name, folder / name)
    local = Path(".dvc/config.local")  # the remote's keys; in no commit
    if local.is_file() and (folder / ".dvc").is_dir():
        shutil.copy2(local, folder / local)
    if not (folder / "dvc.yaml").is_file() or not (folder / ".dvc").is_dir():
        raise UserError(
            f"{commit[:7] if commit else Path.cwd()}: expected dvc.yaml and .dvc, found neither or "
            "one.\nRun this from the top folder of the project."
        )


def _forget_lost(folder: Path, cache: Path) -> None:
    """Removes a copy's dvc.lock that names predictions which the cache does not have.

    By it DVC would run the stages again, though the run cache has what they made here.
    """
    path = folder / pipeline.LOCK
    lock = dvc_state.read_lock(path) if path.is_file() else {}
    digest = dvc_state.output(lock, sides.PREDICTIONS)
    if digest and not dvc_state.cached(cache, digest).is_file():
        path.unlink()


def _share_cache(folder: Path, cache: Path) -> None:
    """Sets a copy to the work tree's cache, without Git and with a state of its own."""
    from configobj import ConfigObj  # type: ignore[import-untyped] # DVC's writes no Chinese path

    path = folder.resolve() / ".dvc"
    settings = ConfigObj(str(path / "config.local"), encoding="utf-8")
    settings.setdefault("cache", {})["dir"] = str(cache.resolve())
    settings.setdefault("core", {}).update({"no_scm": True, "site_cache_dir": str(path / "site")})
    settings.write()


def _check_out(folder: Path) -> None:
    """Lays out of the cache what .dvc files of a copy name: data of one's own, which Git ignores.

    What the cache does not have is named by the stage that reads it.
    """
    names = [str(path.relative_to(folder)) for path in folder.rglob("*.dvc") if path.is_file()]
    if names:
        command = [sys.executable, "-m", "dvc", "checkout", "-q", *sorted(names)]
        subprocess.run(command, cwd=folder, capture_output=True, check=False)  # noqa: S603 DVC


def _seeds(folder: Path, count: int) -> list[int]:
    """The ``train.seed`` of a copy, and those that follow it."""
    train = config.read(str(folder / config.PARAMS)).get("train")
    seed = train.get("seed") if isinstance(train, dict) else None
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise UserError(
            f"params.yaml: train.seed: expected an integer from 0, found {yaml_file.show(seed)}.\n"
            "Set it to one and run again."
        )
    if seed + count - 1 > _LAST_SEED:
        raise UserError(
            f"params.yaml: train.seed: expected {_LAST_SEED - count + 1} at most, as {count} seeds "
            f"are trained from it on, found {seed}.\nLower one of them and run again."
        )
    return list(range(seed, seed + count))


def _train(seeds: Sequence[int], folders: Sequence[Path]) -> dict[int, Labels]:
    """What every training predicts, by seed; as many at a time as there are folders."""
    free = collections.deque(folders)
    began, trained = time.monotonic(), {}
    with concurrent.futures.ThreadPoolExecutor(len(folders)) as pool:
        waiting = {}
        for seed in seeds:

            def work(seed: int = seed) -> tuple[bool, Labels]:
                folder = free.popleft()
                try:
                    return _reproduce(seed, folder)
                finally:
                    free.append(folder)

            waiting[pool.submit(work)] = seed
        try:
            for done, future in enumerate(concurrent.futures.as_completed(waiting), start=1):
                cached, labels = future.result()
                trained[waiting[future]] = labels
                spent = time.monotonic() - began
                left = f", about {spent / done * (len(seeds) - done):.0f} s left"
                print(
                    f"{done} of {len(seeds)}: seed {waiting[future]}, accuracy "
                    f"{percent(float(labels.correct.mean()))}, "
                    f"{'out of the cache' if cached else 'trained'}, {spent:.0f} s so far"
                    f"{left if done < len(seeds) else ''}",
                    flush=True,
                )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return dict(sorted(trained.items()))


def _reproduce(seed: int, folder: Path) -> tuple[bool, Labels]:
    """Whether the training came out of the cache, and what it predicts."""
    from dvc.utils.serialize import modify_yaml  # type: ignore[import-untyped]

    with modify_yaml(str(folder / config.PARAMS)) as params:
        params["train"]["seed"] = seed
    target = _target(folder)
    command = [sys.executable, "-m", "dvc", "repro", target]
    finished = subprocess.run(  # noqa: S603 the project's own pipeline
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        encoding="utf-8",
        errors="replace",
    )
    if finished.returncode:
        log = "\n".join(finished.stdout.strip().splitlines()[-_LOG_LINES:])
        print(log, file=sys.stderr)
        raise UserError(
            f"train.seed {seed}: `dvc repro {target}` failed; the end of its log is above.\n"
            "Mend that and run the same command again: finished trainings are kept."
        )
    trained = "Running stage 'train'" in finished.stdout
    return not trained, sides.read_labels(folder / sides.PREDICTIONS)


def _target(folder: Path) -> str:
    """The stage that makes the predictions."""
    path = folder / "dvc.yaml"
    text = yaml_file.text_of(path, path.as_posix())
    stages = dvc_state.parse(text, path).get("stages", {})
    for name, stage in stages.items() if isinstance(stages, dict) else ():
        if sides.PREDICTIONS in str(stage.get("outs")):
            return str(name)
    raise UserError(
        f"dvc.yaml: expected a stage with the output {sides.PREDICTIONS}, found none.\n"
        "`git diff dvc.yaml` shows what changed."
    )


def _spread(name: str, trained: dict[int, Labels]) -> str:
    """The mean, the spread and the interval in a few lines."""
    correct = scores.correct(list(trained.values()))
    accuracies = correct.mean(axis=1)
    mean = percent(float(accuracies.mean()))
    if len(trained) == 1:
        return f"{name}: test accuracy {mean}, one training; its spread takes two or more."
    low, high = (percent(limit) for limit in evidence.mean_interval(correct))
    points = 100 * statistics.stdev(accuracies.tolist())
    return (
        f"{name}: mean test accuracy {mean} of {len(trained)} trainings, from "
        f"{percent(float(accuracies.min()))} to {percent(float(accuracies.max()))}, standard "
        f"deviation {points:.2f} points.\n95 % interval of the mean over seeds and test images: "
        f"{low} to {high}."
    )


if __name__ == "__main__":
    sys.exit(main())
