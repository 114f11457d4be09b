"""Trainings on a GPU; skipped where TensorFlow finds none."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("gpu")]

ROOT = Path(__file__).parents[2]
METRICS = Path("reports/train/metrics.json")


@pytest.fixture
def gpu(tensorflow: None) -> None:
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        pytest.skip("TensorFlow finds no GPU")


def train(ready: Any, run_stage: Callable[[str], Any], **params: Any) -> dict[str, bytes]:
    """The outputs of the made project's training on the GPU."""
    ready.params["train"] |= params
    ready.save()
    finished = run_stage("train")
    assert finished.code == 0, finished.err
    assert "Runs on 1 GPU: " in finished.out
    files = [Path("models/model.keras"), METRICS, METRICS.with_name("history.csv")]
    return {path.name: path.read_bytes() for path in files}


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_the_bytes_are_the_same_each_time_and_the_scores_those_of_the_cpu(
    network: str, precision: str, ready: Any, run_stage: Callable[[str], Any]
) -> None:
    cnn = {"channels": [4, 8], "convolutions": [1, 1], "dropout": 0.2}
    ready.params["model"] |= {"architecture": network, "cnn": cnn}
    keys = {"precision": precision, "augmentation": {"shift": 1, "rotation": 10}}
    first = train(ready, run_stage, **keys)
    assert train(ready, run_stage) == first
    ready.params["train"]["precision"] = "float32"
    ready.save()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
    subprocess.run([sys.executable, "-m", "stages.train"], env=environment, check=True)
    found, expected = json.loads(first["metrics.json"]), json.loads(METRICS.read_bytes())
    assert found["untrained_loss"] == pytest.approx(expected["untrained_loss"], rel=1e-2)
    assert found["val_loss"] == pytest.approx(expected["val_loss"], abs=0.05)
    assert found["val_loss"] < 0.9 * found["untrained_loss"]


def test_the_same_bits_can_be_given_up(ready: Any, run_stage: Callable[[str], Any]) -> None:
    scores = json.loads(train(ready, run_stage, deterministic=False)["metrics.json"])
    assert scores["val_loss"] < 0.9 * scores["untrained_loss"]
