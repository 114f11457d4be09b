"""Small repositories with results to compare, made by hand: no stage runs, DVC believes them."""

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from stages.lib import split_file
from stages.lib.metrics import wilson_interval
from tools.compare import __main__ as command

ACTUAL = [0, 1, 2] * 20  # the labels of 60 test images
REPORT = Path("reports/comparison/report.md")

_PIPELINE = {
    "prepare": (["dataset"], [], ["data/raw", "data/normalized/test.npz"]),
    "train": (
        ["train.epochs", "train.seed"],
        ["data/raw"],
        ["models/model.keras", "reports/train/metrics.json", "reports/train/history.csv"],
    ),
    "evaluate": (
        [],
        ["data/normalized/test.npz", "models/model.keras"],
        ["reports/evaluate/metrics.json", "reports/evaluate/predictions.csv"],
    ),
}
_IN_GIT = ("metrics.json", "history.csv")


@dataclass
class Run:
    """What a made run is like.

    Attributes:
        wrong: The predicted label by index of the images that are not predicted right.
        actual: The labels of the test images.
        dataset: An entry of datasets.yaml: pets or birds.
        train: The section ``train`` of params.yaml.
        names: The class names.
        shade: The brightness of all images.
        metrics: More metrics of the test split.
        weights: An entry of weights.yaml, or none as before there was such a file.
    """

    wrong: dict[int, int] = field(default_factory=dict)
    actual: list[int] = field(default_factory=lambda: list(ACTUAL))
    dataset: str = "pets"
    train: dict[str, Any] = field(default_factory=lambda: {"epochs": 5})
    names: list[str] = field(default_factory=lambda: ["cat", "dog", "owl"])
    shade: float = 0.5
    metrics: dict[str, float] = field(default_factory=dict)
    weights: str = ""

    @property
    def predicted(self) -> list[int]:
        return [self.wrong.get(index, label) for index, label in enumerate(self.actual)]


def wrong(first: int, count: int) -> dict[int, int]:
    """``count`` images from ``first`` on, each predicted as the class after its own."""
    return {index: (ACTUAL[index] + 1) % 3 for index in range(first, first + count)}


def few(*counts: int, start: int = 0) -> list[Run]:
    """Runs that misclassify so many images, from image ``start`` on."""
    return [Run(wrong(start, count)) for count in counts]


@dataclass
class Compared:
    """What the command left: exit status, standard output and error, the report."""

    code: int
    out: str
    err: str
    report: str

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def title(self) -> str:
        return self.report.splitlines()[0]


class Repository:
    """A Git and DVC repository in the present folder."""

    def __init__(self, path: Path, capture: Any) -> None:
        self.path = path
        self._capture = capture

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        done = subprocess.run(
            ["git", *identity, *arguments],
            cwd=self.path,
            check=True,
            capture_output=True,
            encoding="utf-8",
        )
        return done.stdout.strip()

    def commit(self, message: str = "More") -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def put(self, run: Run) -> None:
        """Writes the parameters and results of a run, and what DVC would record of it."""
        params = {"dataset": run.dataset, "train": {"seed": 1, **run.train}}
        entry = {"title": "Pets", "class_names": run.names}
        if run.weights:
            params["model"] = {"weights": run.weights}
            _yaml(
                self.path / "weights.yaml", {run.weights: {"title": f"The {run.weights} weights"}}
            )
        _yaml(self.path / "params.yaml", params)
        _yaml(self.path / "datasets.yaml", {"pets": entry, "birds": {**entry, "title": "Birds"}})
        _yaml(self.path / "environment.yaml", {"numpy": "2.4.6"})
        self.write_outputs(run)
        self._record({"dataset": run.dataset, "train.epochs": run.train["epochs"], "train.seed": 1})

    def put_cached(self, name: str) -> None:
        """Puts a file into DVC's cache."""
        content = (self.path / name).read_bytes()
        digest = hashlib.md5(content).hexdigest()
        cached = self.path / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_bytes(content)

    def train_more(self, *runs: Run, first: int = 2) -> None:
        """Puts trainings with the seeds 2, 3, ... into the run cache, beside what is there."""
        lock = yaml.safe_load((self.path / "dvc.lock").read_text(encoding="utf-8"))["stages"]
        files = {
            name: (self.path / name).read_bytes()
            for stage in ("train", "evaluate")
            for name in _PIPELINE[stage][2]
        }
        for seed, run in enumerate(runs, start=first):
            self.write_outputs(run)
            for stage in ("train", "evaluate"):
                entry = {**lock[stage], "outs": [self.hashed(n) for n in _PIPELINE[stage][2]]}
                if stage == "train":
                    values = {**lock[stage]["params"]["params.yaml"], "train.seed": seed}
                    entry["params"] = {"params.yaml": values}
                    model = self.hashed("models/model.keras")
                else:
                    deps = [d for d in entry["deps"] if d["path"] != "models/model.keras"]
                    entry["deps"] = [*deps, model]
                for name in _PIPELINE[stage][2]:
                    self.put_cached(name)
                key = hashlib.sha256(f"{stage} {seed} {entry}".encode()).hexdigest()
                path = self.path / ".dvc/cache/runs" / key[:2] / key / key
                path.parent.mkdir(parents=True, exist_ok=True)
                _yaml(path, entry)
        for name, content in files.items():
            (self.path / name).write_bytes(content)

    def drop_cache(self) -> None:
        shutil.rmtree(self.path / ".dvc/cache")

    def compare(self, *arguments: str) -> Compared:
        """Runs the command in this process."""
        self._capture.readouterr()
        code = command.main(arguments)
        out, err = self._capture.readouterr()
        report = REPORT.read_text(encoding="utf-8") if REPORT.exists() else ""
        return Compared(code, out, err, report)

    def fails(self, *arguments: str) -> str:
        """The error of a run that fails, which obeys the house rules."""
        found = self.compare(*arguments)
        assert found.code == 1
        assert found.err.startswith("ERROR: ")
        message = found.err.removeprefix("ERROR: ").strip()
        assert len(message.splitlines()) <= 2
        return message

    def write_outputs(self, run: Run) -> None:
        """Writes the files that the stages of a run would write."""
        labels, predicted = np.array(run.actual), np.array(run.predicted)
        right = int((labels == predicted).sum())
        low, high = wilson_interval(right, len(labels))
        figures = {
            "accuracy": round(right / len(labels), 6),
            "accuracy_low": round(low, 6),
            "accuracy_high": round(high, 6),
            "loss": round(1 - right / len(labels), 6),
            "images": len(labels),
            **run.metrics,
        }
        rows = [
            f"{i},{a},{p},{','.join('0.8' if k == p else '0.1' for k in range(3))}"
            for i, (a, p) in enumerate(zip(labels, predicted, strict=True))
        ]
        header = "index,actual,predicted,probability_0,probability_1,probability_2"
        epochs = range(1, run.train["epochs"] + 1)
        history = [f"{n},{1 / n},{1 - 0.5 / n},{1.1 / n},{0.9 - 0.5 / n}" for n in epochs]
        for name, text in {
            "data/raw": f"{run.dataset} {run.actual}",
            "models/model.keras": "w" * 1000 + str(run.wrong),
            "reports/train/metrics.json": json.dumps({"loss": 0.25, "parameters": 9610}),
            "reports/train/history.csv": "\n".join(
                ["epoch,loss,accuracy,val_loss,val_accuracy", *history, ""]
            ),
            "reports/evaluate/metrics.json": json.dumps(figures),
            "reports/evaluate/predictions.csv": "\n".join([header, *rows, ""]),
        }.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_text(text, encoding="utf-8", newline="\n")
        images = np.full((len(labels), 4, 4), run.shade, np.float32)
        split = split_file.Split(images, labels.astype(np.int64), run.names, [], 255.0)
        split_file.write(self.path / "data/normalized/test.npz", split)

    def _record(self, params: dict[str, Any]) -> None:
        pipeline, lock = {}, {}
        for stage, (keys, deps, outs) in _PIPELINE.items():
            in_git = [name for name in outs if name.endswith(_IN_GIT)]
            pipeline[stage] = {
                "cmd": f"echo {stage}",
                "params": keys,
                "deps": deps,
                "outs": [{name: {"cache": name not in in_git}} for name in outs],
            }
            lock[stage] = {
                "cmd": f"echo {stage}",
                "deps": [self.hashed(name) for name in deps],
                "params": {"params.yaml": {key: params[key] for key in keys}},
                "outs": [self.hashed(name) for name in outs],
            }
            for name in set(outs) - set(in_git):
                self.put_cached(name)
        _yaml(self.path / "dvc.yaml", {"stages": pipeline})
        _yaml(self.path / "dvc.lock", {"schema": "2.0", "stages": lock})

    def hashed(self, name: str) -> dict[str, Any]:
        content = (self.path / name).read_bytes()
        digest = hashlib.md5(content).hexdigest()
        return {"path": name, "hash": "md5", "md5": digest, "size": len(content)}


def create(path: Path, capture: Any) -> Repository:
    """An empty Git and DVC repository with one commit on the branch main."""
    made = Repository(path, capture)
    path.mkdir(parents=True, exist_ok=True)
    made.git("init", "-q", "-b", "main")
    (path / ".dvc").mkdir()
    (path / ".dvc/config").write_text("[core]\n    analytics = false\n", encoding="utf-8")
    (path / ".dvc/.gitignore").write_text("/cache\n/tmp\n/config.local\n", encoding="utf-8")
    ignored = ["/data", "/models", "/reports/comparison", "predictions.csv", "*.tmp", ""]
    (path / ".gitignore").write_text("\n".join(ignored), encoding="utf-8")
    return made


def _yaml(path: Path, content: dict[str, Any]) -> None:
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    path.write_text(text, encoding="utf-8", newline="\n")


_KNOWN: dict[object, Any] = {}  # both sides, as they were read


def read_once(key: object, monkeypatch: Any) -> None:
    """Lets all comparisons of equal repositories, and so of one key, use what the first one read.

    Opening DVC's repositories again and again takes most of the time of a comparison.
    """
    read = command._sides

    def sides(*given: Any) -> Any:
        if key not in _KNOWN:
            _KNOWN[key] = read(*given)
        return _KNOWN[key]

    monkeypatch.setattr(command, "_sides", sides)


def environment() -> list[str]:
    """The variables of CI systems that change what is compared with what."""
    return [name for name in os.environ if name.startswith(("GITHUB_", "CI_", "GIT_"))]
