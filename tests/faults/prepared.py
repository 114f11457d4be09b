"""Folders in which each stage can run: a tiny data set, its configuration, and old outputs."""

import functools
import gzip
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from stages.lib import split_file
from stages.lib.core import pipeline
from tests.conftest import ROOT, idx_bytes
from tests.stages import plot_inputs

STAGES = {
    name: stage.resolved(yaml.safe_load((ROOT / pipeline.PARAMS).read_text(encoding="utf-8")))
    for name, stage in pipeline.load(ROOT).items()
}
# What each stage makes, in what is moved into place at once
OUTPUTS = {name: [out.path for out in stage.outs] for name, stage in STAGES.items()}
OUTPUTS["normalize"] = [
    "data/normalized",
    *(path for path in OUTPUTS["normalize"] if not path.startswith("data/normalized/")),
]
CODE = ("stages",)
START = """
import pathlib, sys
import keras
from stages.lib import model_file
from tests.tools import model_fixtures
network = [keras.Input((4, 4)), keras.layers.Flatten()]
network += [keras.layers.Dense(4, activation="relu"), keras.layers.Dense(3)]
metadata = model_fixtures.metadata((4, 4))
model_file.save(keras.Sequential(network), pathlib.Path(sys.argv[1]), metadata)
"""
ENVIRONMENT = {"DATASET_CACHE": "cache", "DATASET_MIRROR": "mirror"}  # in the working folder


def prepare(stage: str, folder: Path, start: bool = True) -> None:
    """Writes what the stage reads; evaluate's model is left to train.

    Args:
        stage: Its name.
        folder: Is made.
        start: Whether a training starts from a model, which takes longer and writes no more.
    """
    folder.mkdir()
    if stage == "plot":
        plot_inputs.write(folder)
    else:
        trained = stage in ("train", "evaluate")
        _write_configuration(folder, _start() if trained and start else b"weights")
    if stage == "normalize":
        for source in ("mirror/tiny", "data/embedded"):
            shutil.copytree(folder / source, folder / "data/raw", dirs_exist_ok=True)
    if stage in ("train", "evaluate"):
        _write_splits(folder)
        (folder / "data/weights").mkdir()
        if start:
            (folder / "data/weights/start.keras").write_bytes(_start())
            sums = f"{hashlib.sha256(_start()).hexdigest()}  start.keras\n"
            (folder / "data/weights/SHA256SUMS").write_bytes(sums.encode())
        else:
            _start_from_none(folder)
    for output in OUTPUTS[stage]:
        path = folder / output
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"old")
        else:
            path.mkdir(parents=True, exist_ok=True)
            (path / "old").write_bytes(b"old")


def read_by(stage: str, folder: Path) -> list[str]:
    """The files in a prepared folder that a stage reads by dvc.yaml; of download, the mirror's too.

    Raises:
        ValueError: The folder lacks something that dvc.yaml names.
    """
    declared = STAGES[stage]
    configuration = sorted({pipeline.PARAMS, *(file for file, _ in declared.params)})
    data = [dep for dep in declared.deps if dep.split("/")[0] not in CODE]
    if stage == "download":
        data.append("mirror")
    names = []
    for name in [*configuration, *data]:
        path = folder / name
        paths = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        if not paths:
            raise ValueError(f"{stage} reads {name}, which tests/faults/prepared.py does not make")
        names += [file.relative_to(folder).as_posix() for file in sorted(paths)]
    return names


def _write_configuration(folder: Path, start: bytes) -> None:
    (folder / "data/embedded").mkdir(parents=True)
    (folder / "mirror/tiny").mkdir(parents=True)
    files = {}
    for role, array in {
        "train_images": np.arange(120).reshape(20, 2, 3),
        "train_labels": np.arange(20) % 2,
        "test_images": np.arange(30).reshape(5, 2, 3),
        "test_labels": np.array([0, 1, 1, 0, 1]),
    }.items():
        content = gzip.compress(idx_bytes(array), mtime=0)
        place = "data/embedded" if role == "test_images" else "mirror/tiny"
        (folder / place / f"{role}.gz").write_bytes(content)
        files[role] = {"name": f"{role}.gz", "sha256": hashlib.sha256(content).hexdigest()}
    entry = {
        "title": "A made data set",
        "licence": "CC0",
        "citation": "Nobody (2025).",
        "format": "idx",
        "urls": [],
        "files": files,
        "pixel_max": 255,
        "class_names": ["even", "odd"],
    }
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["dataset"] = "tiny"
    params["model"]["weights"] = "start"
    params["model"]["mlp"] = {"hidden_units": [4], "dropout": 0.2}
    params["train"] |= {"epochs": 2, "batch_size": 8}
    shutil.copyfile(ROOT / "environment.yaml", folder / "environment.yaml")
    (folder / "mirror/weights").mkdir()
    (folder / "mirror/weights/start.keras").write_bytes(start)
    digest = hashlib.sha256(start).hexdigest()
    weights = {
        "title": "Made weights",
        "licence": "CC0",
        "citation": "Nobody (2025).",
        "urls": [],
        "files": {"values": {"name": "start.keras", "sha256": digest}},
    }
    for name, mapping in {
        "params.yaml": params,
        "datasets.yaml": {"tiny": entry},
        "weights.yaml": {"start": weights},
    }.items():
        (folder / name).write_text(yaml.safe_dump(mapping, sort_keys=False), encoding="utf-8")


def _write_splits(folder: Path) -> None:
    random = np.random.default_rng(0)
    for name, count in (("train", 24), ("validation", 8), ("test", 8)):
        labels = np.arange(count) % 2
        images = random.random((count, 4, 4), np.float32) * 0.2 + 0.8 * labels[:, None, None]
        split = split_file.Split(images.astype(np.float32), labels, ["low", "high"], [], 255.0)
        split_file.write(folder / f"data/normalized/{name}.npz", split)


def _start_from_none(folder: Path) -> None:
    for name in (pipeline.PARAMS, "weights.yaml"):
        path = folder / name
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if name == pipeline.PARAMS:
            content["model"]["weights"] = "none"
        else:
            content["none"] = {**content["start"], "files": {}}
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


@functools.cache
def _start() -> bytes:
    """A model of another data set, of the network that is configured.

    It is made in a process of its own, as TensorFlow takes settings before its first use alone.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "start.keras")
        command = [sys.executable, "-c", START, str(path)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        return path.read_bytes()
