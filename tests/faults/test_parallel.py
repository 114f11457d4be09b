"""Several at once, and clones that lack something: the words that say so, or the right results."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.conftest import Finished, Repository, unprivileged

pytestmark = pytest.mark.slow


def shorten(repository: Repository) -> None:
    """Makes the training short, and commits that."""
    path = repository.path / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["train"]["epochs"] = 2
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    assert repository.run("git", "commit", "-qam", "A short training").code == 0


def at_once(*repositories: Repository) -> list[Finished]:
    """What `dvc repro` says in each, all of them started at the same time."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    running = [
        subprocess.Popen(
            ["dvc", "repro"],
            cwd=repository.path,
            env={**os.environ, **repository.environment, "PATH": path, "PYTHONUTF8": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        for repository in repositories
    ]
    texts = [process.communicate() for process in running]
    return [
        Finished(process.returncode, *text) for process, text in zip(running, texts, strict=True)
    ]


def left_over(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.tmp") if ".git" not in path.parts]


def test_of_two_runs_in_one_folder_one_waits_or_names_the_lock(repository: Repository) -> None:
    shorten(repository)
    both = at_once(repository, repository)
    assert min(done.code for done in both) == 0
    for done in both:
        assert "Traceback" not in done.err
        if done.code:
            assert "lock" in done.err.lower(), done.err
    again = repository.run("dvc", "repro")
    assert (again.code, "Running stage" in again.out) == (0, False)
    assert repository.run("dvc", "status").out.strip() == "Data and pipelines are up to date."
    assert left_over(repository.path) == []


def test_two_clones_with_one_cache_agree(repository: Repository, tmp_path: Path) -> None:
    shorten(repository)
    other = replace(repository, path=tmp_path / "other")
    assert repository.run("git", "clone", "-q", str(repository.path), str(other.path)).code == 0
    for clone in (repository, other):
        done = clone.run("dvc", "config", "--local", "cache.dir", str(tmp_path / "shared"))
        assert done.code == 0, done.err
    for done in at_once(repository, other):
        assert done.code == 0, done.err
    for name in ("dvc.lock", "reports/index.html", "models/model.keras"):
        assert (repository.path / name).read_bytes() == (other.path / name).read_bytes()
    for clone in (repository, other):
        assert clone.run("dvc", "status").out.strip() == "Data and pipelines are up to date."
        assert left_over(clone.path) == []


def test_an_experiment_elsewhere_gives_what_one_here_gives(repository: Repository) -> None:
    shorten(repository)
    assert repository.run("dvc", "repro").code == 0
    assert repository.run("git", "commit", "-qam", "Results").code == 0
    for place in (["-n", "elsewhere", "--temp"], ["-n", "here"]):
        done = repository.run("dvc", "exp", "run", *place, "-S", "train.seed=7")
        assert done.code == 0, done.err
        if "--temp" in place:
            changed = repository.run("git", "status", "--porcelain", "-uno")
            assert (changed.code, changed.out) == (0, "")
    texts = {}
    for name in ("elsewhere", "here"):
        listing = repository.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").out
        (reference,) = [line for line in listing.splitlines() if line.endswith(f"/{name}")]
        texts[name] = repository.run("git", "show", f"{reference}:dvc.lock").out
        assert "seed: 7" in texts[name]
    assert texts["elsewhere"] == texts["here"]
    assert left_over(repository.path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="the queue's workers are killed as on Unix")
def test_a_queue_of_two_workers_with_kills_and_what_dvc_gc_frees(repository: Repository) -> None:
    done = repository.run(
        *["python", "-m", "benchmarks.soak", "--experiments", "2", "--kills", "1"]
    )
    assert done.code == 0, done.out + done.err
    assert re.search(
        r"2 recorded results of 2 experiments in \S+ minutes, \d kills; 0 differ from clean runs'; "
        r"0 temporary files left; 0 objects that dvc gc should not have kept or dropped",
        done.out,
    )


def test_a_read_only_clone_says_what_cannot_be_written(repository: Repository) -> None:
    words = unprivileged()
    paths = [repository.path, *repository.path.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    done = repository.run(*words, sys.executable, "-m", "stages.download")
    for path in paths:
        path.chmod(0o755)
    assert done.message == "data/raw: Permission denied.\nMend that and run again."


def test_a_clone_without_history_reproduces_and_says_what_it_cannot_compare(
    repository: Repository, tmp_path: Path
) -> None:
    shorten(repository)
    repository.edit("params.yaml", "epochs: 2", "epochs: 1")
    assert repository.run("git", "commit", "-qam", "Shorter").code == 0
    shallow = replace(repository, path=tmp_path / "shallow")
    url = f"file://{repository.path}"
    assert repository.run("git", "clone", "-q", "--depth", "1", url, str(shallow.path)).code == 0
    done = shallow.run("dvc", "repro")
    assert done.code == 0, done.err
    assert left_over(shallow.path) == []
    message = shallow.run("python", "-m", "tools.compare", "HEAD~1").message
    assert message.startswith("HEAD~1: ")
    assert "fetch" in message
