"""What it brings to start from other weights, where there are ten images a class.

    python -m benchmarks.starting MIRROR [--seeds 5]

MIRROR is a folder with mnist/ and fashion_mnist/. Three networks learn one data set, one of them of
keras.applications, whose weights are then laid out as Keras publishes them. From each of them, and
from values drawn at random, networks learn 100 images of another data set, other ones and with
other seeds each time, and are tested on all its test images. All by the stages as they are, in a
folder of their own. The table is written to benchmarks/starting.md.
"""

import argparse
import hashlib
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from benchmarks import machine, side_by_side
from benchmarks.side_by_side import ROOT
from stages.lib.data.formats import idx

TABLE = ROOT / "benchmarks/starting.md"
A_CLASS = 10


class First(NamedTuple):
    """A training whose weights others start from.

    Attributes:
        dataset: What is learnt.
        then: The data set of which few images are learnt from there.
        changes: Values other than those of the recipe fashion-cnn, by section.
    """

    dataset: str
    then: str
    changes: dict[str, dict[str, Any]]


CNN = {"architecture": "cnn"}
BACKBONE = {"architecture": "pretrained", "pretrained": {"backbone": "MobileNetV3Small"}}
FIRST: dict[str, First] = {  # by the file that is made
    "mnist_cnn.keras": First(
        "mnist",
        "digits",
        {"model": CNN, "normalize": {"size": 28}, "train": {"epochs": 3}},
    ),
    "fashion_cnn.keras": First("fashion_mnist", "mnist", {"model": CNN, "train": {"epochs": 3}}),
    "mobilenet_v3_small_notop.h5": First(
        "fashion_mnist",
        "mnist",
        {
            "model": BACKBONE,
            "normalize": {"size": 32},
            "train": {"epochs": 5, "batch_size": 32, "learning_rate": 0.002},
        },
    ),
}
FEW = {  # how 100 images are learnt
    "optimizer": "adam",
    "learning_rate": 0.003,
    "schedule": "cosine",
    "warmup": 0.1,
    "weight_decay": 0.0,
    "label_smoothing": 0.0,
    "augmentation": {"shift": 2},
    "batch_size": 20,
    "epochs": 60,
    "threads": 2,
}
WAYS: dict[str, dict[str, Any]] = {  # of the second training
    "drawn at random": {},
    "trained from there": {},
    "frozen for 20 epochs": {"frozen_epochs": 20, "fine_tuning_factor": 0.3},
    "frozen": {"frozen_epochs": 60},
}
LAY_OUT = """
import sys
import h5py, keras
from keras.src.legacy.saving import legacy_h5_format
from stages.lib.training import starting
network = starting.backbone(keras.saving.load_model(sys.argv[1]))
with h5py.File(sys.argv[2], "w") as stream:
    legacy_h5_format.save_weights_to_hdf5_group(stream, network)
"""


class Folder:
    """A working folder for the stages.

    Args:
        path: Of the folder, empty.
        mirror: A folder with mnist/ and fashion_mnist/.
    """

    def __init__(self, path: Path, mirror: Path) -> None:
        self.path = path
        self._mirror, self._cache = mirror, path / "cache"
        shutil.copytree(ROOT / "stages", path / "stages")
        for name in ("dvc.yaml", "environment.yaml"):
            shutil.copyfile(ROOT / name, path / name)
        (path / "data/embedded").mkdir(parents=True)
        (path / "data/own").mkdir()
        self._recipe = self._read(ROOT / "recipes/fashion-cnn.yaml")
        self._datasets = self._read(ROOT / "datasets.yaml")
        self._weights = self._read(ROOT / "weights.yaml")

    def run(self, changes: dict[str, dict[str, Any]], dataset: str) -> float:
        """The test accuracy of the recipe with other values, by section."""
        params = {**self._recipe, "dataset": dataset}
        for section, values in changes.items():
            params[section] = {**params[section], **values}
        for name, content in {
            "params.yaml": params,
            "datasets.yaml": self._datasets,
            "weights.yaml": self._weights,
        }.items():
            (self.path / name).write_text(yaml.safe_dump(content), encoding="utf-8")
        for stage in ("download", "normalize", "train", "evaluate"):
            command = [sys.executable, "-m", f"stages.{stage}"]
            places = {"DATASET_MIRROR": str(self._mirror), "DATASET_CACHE": str(self._cache)}
            side_by_side.run(command, self.path, **places)
        text = (self.path / "reports/evaluate/metrics.json").read_text(encoding="utf-8")
        return float(json.loads(text)["accuracy"])

    def keep_weights(self, name: str) -> None:
        """Makes what was trained last an entry of weights.yaml."""
        path, model = self.path / "data/own" / name, self.path / "models/model.keras"
        if name.endswith(".keras"):
            shutil.copyfile(model, path)
        else:
            command = [sys.executable, "-c", LAY_OUT, str(model), str(path)]
            side_by_side.run(command, self.path)
        file = {"name": name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        self._weights[path.stem] = {**self._weights["none"], "files": {"values": file}}

    def few_images(self, dataset: str, seed: int) -> None:
        """Makes an entry ``few`` of ten training images a class and all test images."""
        arrays = digits() if dataset == "digits" else mnist(self._mirror)
        random = np.random.default_rng(seed)
        chosen = [
            random.choice(np.flatnonzero(arrays["y_train"] == digit), A_CLASS, replace=False)
            for digit in range(10)
        ]
        rows = np.sort(np.concatenate(chosen))
        few = {**arrays, "x_train": arrays["x_train"][rows], "y_train": arrays["y_train"][rows]}
        path = self.path / "data/own/few.npz"
        np.savez(path, allow_pickle=False, **few)
        file = {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        entry = {**self._datasets[dataset], "urls": [], "format": "npz", "files": {"arrays": file}}
        self._datasets["few"] = entry

    def _read(self, path: Path) -> dict[str, Any]:
        content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        return content


def digits() -> dict[str, Any]:
    """The arrays of the embedded data set."""
    with np.load(ROOT / "data/embedded/digits.npz") as content:
        return dict(content)


def mnist(mirror: Path) -> dict[str, Any]:
    """The arrays of MNIST, by the names that Keras gives them."""
    arrays: dict[str, Any] = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        for kind, letter, axes in (("images-idx3", "x", 3), ("labels-idx1", "y", 1)):
            path = mirror / f"mnist/{prefix}-{kind}-ubyte.gz"
            arrays[f"{letter}_{part}"] = idx.read_array(path, (axes,))
    return arrays


def second(first: dict[str, dict[str, Any]], name: str, way: str, seed: int) -> dict[str, Any]:
    """The values by section of a training on few images."""
    weights = "none" if way == "drawn at random" else Path(name).stem
    return {
        **first,
        "model": {**first["model"], "weights": weights},
        "train": {**FEW, **WAYS[way], "seed": seed},
    }


def main() -> None:
    """Trains and writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "mirror", type=lambda text: Path(text).resolve(), help="folder of the published files"
    )
    parser.add_argument("--seeds", type=int, default=5, help="training seeds 1 to this number")
    options = parser.parse_args()
    found: dict[tuple[str, str], list[float]] = {}
    learnt: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Folder(Path(place), options.mirror)
        for name, first in FIRST.items():
            learnt[name] = folder.run(first.changes, first.dataset)
            folder.keep_weights(name)
            print(f"{name}: {learnt[name]:.4f} on {first.dataset}", flush=True)
        for seed in range(1, options.seeds + 1):
            for name, first in FIRST.items():
                folder.few_images(first.then, seed)
                for way in WAYS:
                    accuracy = folder.run(second(first.changes, name, way, seed), "few")
                    found.setdefault((name, way), []).append(accuracy)
                    print(f"seed {seed}: {name}, {way}: {accuracy:.4f}", flush=True)
    lines = [
        "| from | of | to | values | mean | lowest | highest |",
        "|---|---|---|---|---|---|---|",
    ]
    for (name, way), values in found.items():
        numbers = (statistics.fmean(values), min(values), max(values))
        row = " | ".join(f"{number:.3f}" for number in numbers)
        first = FIRST[name]
        before = f"{first.dataset} ({learnt[name]:.3f})"
        lines.append(f"| {name} | {before} | {first.then} | {way} | {row} |")
    command = f"python -m benchmarks.starting MIRROR --seeds {options.seeds}"
    about = (
        f"Test accuracy after {A_CLASS} training images a class, {options.seeds} seeds, each with "
        f"other images; `{command}`. {machine.describe()}"
    )
    TABLE.write_text("\n".join([*lines, "", about, ""]), encoding="utf-8")
    print(TABLE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
