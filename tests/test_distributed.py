"""Two workers on this machine against one process."""

import csv
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.lib import split_file
from stages.lib.core.errors import UserError
from tests.tools import model_fixtures

ROOT = Path(__file__).parents[1]


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start(folder: Path, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "stages.train"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def losses(folder: Path) -> list[tuple[float, float]]:
    with (folder / "reports/train/history.csv").open() as stream:
        return [(float(row["loss"]), float(row["val_loss"])) for row in csv.DictReader(stream)]


def start_from_a_model(project: Any) -> None:
    """Lets the trainings start from a model of the configured network."""
    import keras

    from stages.lib import model_file
    from stages.models import mlp

    folder = Path("data/weights")
    folder.mkdir()
    path = folder / "start.keras"
    keras.utils.set_random_seed(3)
    model = mlp.build((4, 4), 2, **project.params["model"]["mlp"])
    model_file.save(model, path, model_fixtures.metadata((4, 4)))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_bytes(f"{digest}  {path.name}\n".encode())
    files = {"values": {"name": path.name, "sha256": digest}}
    project.weights["start"] = {**project.weights["none"], "files": files}
    project.params["model"]["weights"] = "start"


@pytest.mark.slow
@pytest.mark.usefixtures("tensorflow")
@pytest.mark.skipif(sys.platform == "win32", reason="TensorFlow has no collectives on Windows")
@pytest.mark.parametrize(
    ("keys", "within"),
    [
        ({}, 1e-4),
        (
            {
                "keep": "best", "patience": 2, "class_weights": "balanced", "standardize": True,
                "optimizer_arguments": {"use_ema": True, "ema_momentum": 0.9, "clipnorm": 1},
            },
            1e-4,
        ),
        ({"frozen_epochs": 1, "fine_tuning_factor": 0.5}, 1e-4),
        ({"precision": "bfloat16"}, 1e-2),
        ({"precision": "float16"}, 1e-2),
    ],
)  # fmt: skip
def test_two_workers_reach_the_losses_of_one_process(
    keys: dict[str, Any], within: float, project: Any, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    for name, count in (("train", 100), ("validation", 30)):  # the last batch does not divide
        labels = np.arange(count) % 2
        images = (random.random((count, 4, 4)) * 0.8 + 0.2 * labels[:, None, None]).astype("f4")
        split = split_file.Split(images, labels, ["low", "high"], [], 255.0)
        split_file.write(Path(f"data/normalized/{name}.npz"), split)
    project.params["model"]["mlp"] = {"hidden_units": [8], "dropout": 0.0}
    none = {"shift": 0, "rotation": 0, "zoom": 0.0, "flip": False, "cutout": 0}
    project.params["train"] |= {"epochs": 3, "batch_size": 32, "augmentation": none, **keys}
    if "frozen_epochs" in keys:
        start_from_a_model(project)
    project.save()
    folders = [tmp_path / name for name in ("alone", "chief", "other")]
    for folder in folders:
        shutil.copytree(project.path, folder)
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    running = [start(folders[0])]
    for index in range(2):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        running.append(start(folders[index + 1], TF_CONFIG=json.dumps(task)))
    for process in running:
        output, _ = process.communicate(timeout=200)
        assert process.returncode == 0, output
        assert ("Starts from start" in output) == ("frozen_epochs" in keys)
    alone, together = losses(folders[0]), losses(folders[1])
    assert np.array(together) == pytest.approx(np.array(alone), rel=within)
    assert not (folders[2] / "models").exists()  # only the chief writes
    assert not (folders[2] / ".checkpoints").exists()


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (None, True),
        ({"cluster": {"worker": ["a", "b"]}, "task": {"type": "worker", "index": 0}}, True),
        ({"cluster": {"worker": ["a", "b"]}, "task": {"type": "worker", "index": 1}}, False),
        (
            {"cluster": {"chief": ["c"], "worker": ["a"]}, "task": {"type": "worker", "index": 0}},
            False,
        ),
        (
            {"cluster": {"chief": ["c"], "worker": ["a"]}, "task": {"type": "chief", "index": 0}},
            True,
        ),
    ],
)
def test_the_chief_is_the_one_that_tensorflow_takes(
    task: dict[str, Any] | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.lib import runtime

    monkeypatch.delenv("TF_CONFIG", raising=False)
    if task:
        monkeypatch.setenv("TF_CONFIG", json.dumps(task))
    assert runtime.is_chief() is expected


@pytest.mark.parametrize(
    "text",
    [
        "abc",
        '{"cluster": {"worker": ["a"]}}',
        '{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 3}}',
        '{"cluster": {"worker": ["a"]}, "task": {"type": "chief", "index": 0}}',
        '["worker"]',
    ],
)
def test_a_cluster_without_this_process_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.lib import runtime

    monkeypatch.setenv("TF_CONFIG", text)
    for ask in (runtime.is_chief, runtime.strategy):
        with pytest.raises(UserError, match="TF_CONFIG: expected JSON of a cluster"):
            ask()
