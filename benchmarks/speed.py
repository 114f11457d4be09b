"""The pipeline's speed beside its peers, as ratios.

    python -m benchmarks.speed MIRROR [--rounds 5] [--peers PYTHON]

MIRROR is a folder with mnist/. PYTHON is an interpreter that has benchmarks/requirements.txt;
without one PyTorch and JAX are left out. The tables are written to benchmarks/speed.md.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import yaml

from benchmarks import machine, side_by_side
from benchmarks.side_by_side import ROOT
from stages.lib.core import files

TABLE = ROOT / "benchmarks/speed.md"
TRIVIAL = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[1])"

# Name in the table, module of benchmarks/peers/, threads, whether it needs the peers' interpreter
DENSE = [
    ("this project, 1 thread", "pipeline_mlp", 1, False),
    ("`model.fit` as the tutorials write it", "keras_fit", 0, False),
    ("PyTorch, 1 thread", "torch_mlp", 1, True),
    ("JAX, `lax.scan` over the epoch", "jax_mlp", 0, True),
    ("NumPy by hand, 1 thread", "numpy_mlp", 1, False),
]
CONVOLUTIONAL = [
    ("this project, 2 threads", "pipeline_cnn", 2, False),
    ("`model.fit`", "keras_fit_cnn", 0, False),
    ("PyTorch, 2 threads", "torch_cnn", 2, True),
]

WHOLE = "`dvc repro` from an empty cache"
FLOOR = "DVC's floor: five trivial stages, nothing changed"

_STAGE = "import runpy; runpy.run_module('stages.{}', run_name='__main__')"
PARTS = {
    "download, from the cache of downloads": _STAGE.format("download"),
    "normalize": _STAGE.format("normalize"),
    "train": _STAGE.format("train"),
    "evaluate": _STAGE.format("evaluate"),
    "plot": _STAGE.format("plot"),
    "in train and evaluate each: importing TensorFlow and Keras": (
        "from stages.lib import runtime\nwith runtime.starting():\n    import keras"
    ),
    "Python alone": "pass",
}


class Clone:
    """A copy of the repository with R4's set-up, to be run from an empty cache.

    Args:
        folder: Where it is made.
        mirror: The folder with mnist/.
    """

    def __init__(self, folder: Path, mirror: str) -> None:
        self.path, self._mirror, self._count = folder, mirror, 0
        side_by_side.run(["git", "clone", "-q", str(ROOT), str(folder)])
        files.write_bytes(
            folder / "params.yaml", (ROOT / "recipes/mnist-mlp-logits.yaml").read_bytes()
        )

    def repro(self) -> None:
        """Runs what is stale."""
        cache = str(self.path / "downloads")
        side_by_side.run(
            [sys.executable, "-m", "dvc", "repro", "-q"],
            self.path,
            DATASET_MIRROR=self._mirror,
            DATASET_CACHE=cache,
        )

    def forget(self) -> None:
        """Empties the cache and removes every output."""
        for name in (".dvc/cache", "downloads", "data/raw", "data/normalized", "models", "reports"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        (self.path / "dvc.lock").unlink(missing_ok=True)

    def change(self, section: str, key: str) -> None:
        """Adds 1 to a parameter, so that it was never run before."""
        path = self.path / "params.yaml"
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
        params[section][key] += 1
        files.write_text(path, yaml.safe_dump(params, sort_keys=False))


def peer(module: str, threads: int, python: str, mirror: str) -> float:
    """Seconds that a peer's training takes; it must have learnt as much as the others."""
    cores = str(threads or machine.cores())
    command = [python, "-m", "benchmarks.peers", module, mirror, str(threads)]
    out = side_by_side.run(command, OMP_NUM_THREADS=cores, OPENBLAS_NUM_THREADS=cores)
    result = json.loads(out.splitlines()[-1])
    if result["accuracy"] < 0.9:
        raise RuntimeError(
            f"{module}: test accuracy {result['accuracy']:.4f}, expected 0.9 or more"
        )
    return float(result["seconds"])


def table(title: str, medians: dict[str, float], against: dict[str, float] | None = None) -> str:
    """Medians in seconds and their ratios.

    Args:
        title: Head of the first column.
        medians: Seconds by what took them.
        against: Seconds that the ratios are to, by the head of their column; the first of the
            medians, if none are given.
    """
    against = against or {"ratio": next(iter(medians.values()))}
    lines = [
        f"| {title} | seconds | {' | '.join(against)} |",
        "|---|---" + "|---" * len(against) + "|",
    ]
    for name, value in medians.items():
        ratios = " | ".join(f"{value / seconds:.2f}" for seconds in against.values())
        lines.append(f"| {name} | {value:.2f} | {ratios} |")
    return "\n".join(lines)


def training(mirror: str, rounds: int, peers: str | None) -> list[str]:
    """The training alone, dense and convolutional."""
    tables = []
    titles = (
        "training alone, 5 epochs of 60,000 images",
        "convolutional, 2 epochs of 60,000 images",
    )
    for title, candidates in zip(titles, (DENSE, CONVOLUTIONAL), strict=True):
        works: dict[str, Callable[[], float]] = {
            name: partial(
                peer, module, threads, (peers if foreign else None) or sys.executable, mirror
            )
            for name, module, threads, foreign in candidates
            if peers or not foreign
        }
        tables.append(table(title, side_by_side.alternating(works, rounds)))
    return tables


def jobs(mirror: str, rounds: int, folder: Path) -> list[str]:
    """The whole job and what a change costs."""
    clone = Clone(folder / "clone", mirror)
    script = [sys.executable, "-m", "benchmarks.peers.tutorial", mirror]

    def whole() -> float:
        clone.forget()
        return side_by_side.seconds(clone.repro)

    def after(section: str, key: str) -> float:
        clone.change(section, key)
        return side_by_side.seconds(clone.repro)

    def floor() -> float:
        return side_by_side.seconds(lambda: side_by_side.run(dvc, trivial))

    whole_job = side_by_side.alternating(
        {
            WHOLE: whole,
            "the tutorial's script": lambda: side_by_side.seconds(lambda: side_by_side.run(script)),
        },
        rounds,
    )
    clone.repro()
    parts = side_by_side.alternating(
        {name: partial(part, code, clone.path) for name, code in PARTS.items()}, rounds
    )
    dvc = [sys.executable, "-m", "dvc", "repro", "-q"]
    trivial = five_trivial_stages(folder / "trivial", dvc)
    incremental = side_by_side.alternating(
        {
            FLOOR: floor,
            "nothing changed": lambda: side_by_side.seconds(clone.repro),
            "one plot parameter": partial(after, "plot", "predictions"),
            "one training parameter": partial(after, "train", "seed"),
            "`python -m tools.audit`": lambda: side_by_side.seconds(
                lambda: side_by_side.run([sys.executable, "-m", "tools.audit"], clone.path)
            ),
        },
        rounds,
    )
    whole_seconds, floor_seconds = whole_job[WHOLE], incremental[FLOOR]
    return [
        table("the whole job on MNIST", whole_job),
        table("its stages, each as its own process", parts, {"of the whole": whole_seconds}),
        table(
            "after a change",
            incremental,
            {"to the floor": floor_seconds, "of the whole": whole_seconds},
        ),
    ]


def part(code: str, folder: Path) -> float:
    """Seconds of a piece of Python in a process of its own."""
    command = [sys.executable, "-c", code]
    cache = str(folder / "downloads")
    return side_by_side.seconds(lambda: side_by_side.run(command, folder, DATASET_CACHE=cache))


def five_trivial_stages(folder: Path, dvc: list[str]) -> Path:
    """A DVC repository of five stages that write a word, run once."""
    folder.mkdir()
    files.write_text(folder / "write.py", TRIVIAL)
    names = [f"out{number}" for number in range(5)]
    stages = {
        name: {
            "cmd": f"python write.py {name}",
            "deps": ["write.py", *names[max(0, at - 1) : at]],
            "outs": [name],
        }
        for at, name in enumerate(names)
    }
    files.write_text(folder / "dvc.yaml", yaml.safe_dump({"stages": stages}))
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"], dvc):
        side_by_side.run(command, folder)
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures everything and writes the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "mirror", type=lambda text: str(Path(text).resolve()), help="folder of the published files"
    )
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds")
    parser.add_argument("--peers", help="an interpreter with benchmarks/requirements.txt")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        tables = training(options.mirror, options.rounds, options.peers)
        tables += jobs(options.mirror, options.rounds, Path(temporary))
    note = f"Medians of {options.rounds} alternating rounds. {machine.describe()}"
    text = "\n\n".join([*tables, note]) + "\n"
    files.write_text(TABLE, text)
    print(text)


if __name__ == "__main__":
    main()
