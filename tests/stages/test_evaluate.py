import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.lib import split_file

pytestmark = pytest.mark.usefixtures("tensorflow")

# Four images of three classes whose pixels are the logits themselves
LOGITS = np.array([[2, 0, 0], [0, 3, 0], [1, 0, 0], [0, 0, 1]], np.float32)
LABELS = np.array([0, 1, 1, 2])


def rows(name: str) -> list[dict[str, str]]:
    with Path(f"reports/evaluate/{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(params=["logits", "softmax"])
def evaluated(request: Any, project: Any, run_stage: Callable[[str], Any]) -> dict[str, Any]:
    """The metrics of a model that gives its input back, with and without a softmax at its end."""
    import keras

    layers = [keras.Input((1, 3)), keras.layers.Flatten()]
    softmax = [keras.layers.Softmax()] if request.param == "softmax" else []
    Path("models").mkdir()
    keras.Sequential([*layers, *softmax]).save("models/model.keras")
    split = split_file.Split(LOGITS[:, None, :], LABELS, ["a", "b, or c", "d"], [], 255.0)
    split_file.write(Path("data/normalized/test.npz"), split)
    finished = run_stage("evaluate")
    assert finished.code == 0, finished.err
    found: dict[str, Any] = json.loads(Path("reports/evaluate/metrics.json").read_text())
    return found


def test_metrics_by_hand(evaluated: dict[str, Any]) -> None:
    powers = np.exp(LOGITS.astype(np.float64))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    loss = -np.log(probabilities[range(4), LABELS]).mean()
    assert evaluated["loss"] == pytest.approx(loss, abs=1e-6)
    assert evaluated["accuracy"] == 0.75
    assert evaluated["top2_accuracy"] == 1.0  # the wrong one has its class second
    assert evaluated["images"] == 4
    # F1 of class a: 1 right of 2 predicted and 1 actual; b: 1 of 1 and 2; d: 1 of 1 and 1
    assert evaluated["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3, abs=1e-6)
    # Wilson's interval of 3 of 4
    assert evaluated["accuracy_low"] == pytest.approx(0.300642, abs=1e-6)
    assert evaluated["accuracy_high"] == pytest.approx(0.954413, abs=1e-6)


def test_predictions_hold_probabilities_for_logits_and_softmax(evaluated: dict[str, Any]) -> None:
    found = rows("predictions")
    assert [row["actual"] for row in found] == ["0", "1", "1", "2"]
    assert [row["predicted"] for row in found] == ["0", "1", "0", "2"]
    by_hand = np.exp(2) / (np.exp(2) + 2)
    assert float(found[0]["probability_0"]) == pytest.approx(by_hand, abs=1e-6)
    total = sum(float(found[0][f"probability_{label}"]) for label in range(3))
    assert total == pytest.approx(1, abs=3e-6)


def test_confusion_table_has_a_row_an_image_with_class_names(evaluated: dict[str, Any]) -> None:
    assert rows("confusion")[2] == {"actual": "b, or c", "predicted": "a"}


def test_per_class_table_by_hand(evaluated: dict[str, Any]) -> None:
    assert rows("per_class")[0] == {
        "label": "0", "class": "a", "precision": "0.500000", "recall": "1.000000",
        "f1": "0.666667", "support": "1",
    }  # fmt: skip


def test_calibration_table_covers_all_images(evaluated: dict[str, Any]) -> None:
    found = rows("calibration")
    assert sum(int(row["images"]) for row in found) == 4
    assert [row["confidence"] for row in found if row["images"] == "0"] == [""] * 12


def test_a_model_of_other_images_is_refused(project: Any, run_stage: Callable[[str], Any]) -> None:
    import keras

    Path("models").mkdir()
    keras.Sequential([keras.Input((5, 5)), keras.layers.Flatten()]).save("models/model.keras")
    split = split_file.Split(LOGITS[:, None, :], LABELS, ["a", "b", "c"], [], 255.0)
    split_file.write(Path("data/normalized/test.npz"), split)
    assert "expected a model of images (1, 3), found one of (5, 5)" in run_stage("evaluate").message


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 broken"])
def test_a_missing_or_broken_model_names_the_next_step(
    content: bytes | None, project: Any, run_stage: Callable[[str], Any]
) -> None:
    split = split_file.Split(LOGITS[:, None, :], LABELS, ["a", "b", "c"], [], 255.0)
    split_file.write(Path("data/normalized/test.npz"), split)
    if content is not None:
        Path("models").mkdir()
        Path("models/model.keras").write_bytes(content)
    message = run_stage("evaluate").message
    assert message.startswith("models/model.keras: ")
    assert "dvc repro" in message
    assert not Path("reports").exists()
