"""Folders in which each stage can run: a tiny data set, its configuration, and old outputs."""

import gzip
import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from stages.lib import split_file
from tests.conftest import ROOT, idx_bytes
from tests.stages import plot_inputs

OUTPUTS = {
    "download": ["data/raw"],
    "normalize": ["data/normalized"],
    "train": [
        "models/model.keras",
        "reports/train/history.csv",
        "reports/train/metrics.json",
        "reports/train/run.json",
    ],
    "evaluate": [
        "reports/evaluate/calibration.csv",
        "reports/evaluate/confusion.csv",
        "reports/evaluate/metrics.json",
        "reports/evaluate/per_class.csv",
        "reports/evaluate/predictions.csv",
    ],
    "plot": ["reports/figures", "reports/index.html"],
}
ENVIRONMENT = {"DATASET_CACHE": "cache", "DATASET_MIRROR": "mirror"}  # in the working folder


def prepare(stage: str, folder: Path) -> None:
    """Writes what the stage reads; evaluate's model is left to train."""
    folder.mkdir()
    if stage == "plot":
        plot_inputs.write(folder)
    else:
        _write_configuration(folder)
    if stage == "normalize":
        shutil.copytree(folder / "mirror/tiny", folder / "data/raw")
    if stage in ("train", "evaluate"):
        _write_splits(folder)
    for output in OUTPUTS[stage]:
        path = folder / output
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"old")
        else:
            path.mkdir(parents=True, exist_ok=True)
            (path / "old").write_bytes(b"old")


def _write_configuration(folder: Path) -> None:
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
        (folder / f"mirror/tiny/{role}.gz").write_bytes(content)
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
    params["model"]["mlp"] = {"hidden_units": [4], "dropout": 0.2}
    params["train"] |= {"epochs": 2, "batch_size": 8}
    shutil.copyfile(ROOT / "environment.yaml", folder / "environment.yaml")
    for name, mapping in {"params.yaml": params, "datasets.yaml": {"tiny": entry}}.items():
        (folder / name).write_text(yaml.safe_dump(mapping, sort_keys=False), encoding="utf-8")


def _write_splits(folder: Path) -> None:
    random = np.random.default_rng(0)
    for name, count in (("train", 24), ("validation", 8), ("test", 8)):
        labels = np.arange(count) % 2
        images = random.random((count, 4, 4), np.float32) * 0.2 + 0.8 * labels[:, None, None]
        split = split_file.Split(images.astype(np.float32), labels, ["low", "high"], [], 255.0)
        split_file.write(folder / f"data/normalized/{name}.npz", split)
