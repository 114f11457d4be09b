import csv
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.lib import metrics, split_file
from stages.lib.core.errors import UserError

pytestmark = pytest.mark.usefixtures("tensorflow")

# Four images of three classes whose pixels, four times as large, are the logits
LOGITS = np.array([[2, 0, 0], [0, 3, 0], [1, 0, 0], [0, 0, 1]], np.float32)
LABELS = np.array([0, 1, 1, 2])
IMAGES = (LOGITS[:, None, :] / 4).astype(np.float32)


def rows(name: str) -> list[dict[str, str]]:
    with Path(f"reports/evaluate/{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(params=["logits", "softmax"])
def evaluated(request: Any, project: Any, run_stage: Callable[[str], Any]) -> dict[str, Any]:
    """The metrics of a model that gives its input times 4, with and without a softmax."""
    import keras

    layers = [keras.Input((1, 3)), keras.layers.Rescaling(4.0), keras.layers.Flatten()]
    softmax = [keras.layers.Softmax()] if request.param == "softmax" else []
    Path("models").mkdir()
    keras.Sequential([*layers, *softmax]).save("models/model.keras")
    put_splits(["a", "b, or c", "d"])
    finished = run_stage("evaluate")
    assert finished.code == 0, finished.err
    values: dict[str, Any] = json.loads(Path("reports/evaluate/metrics.json").read_text())
    return values


def test_metrics_by_hand(evaluated: dict[str, Any]) -> None:
    powers = np.exp(LOGITS.astype(np.float64))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    loss = -np.log(probabilities[range(4), LABELS]).mean()
    assert evaluated["loss"] == pytest.approx(loss, abs=1e-6)
    assert evaluated["accuracy"] == 0.75
    assert evaluated["top2_accuracy"] == 1.0  # the misclassified one has its class second
    assert evaluated["images"] == 4
    # F1 of class a: 1 correct of 2 predicted and 1 actual; b: 1 of 1 and 2; d: 1 of 1 and 1
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


def test_labels_worth_a_second_look_by_hand(evaluated: dict[str, Any]) -> None:
    looks = rows("second_look")
    powers = np.exp(LOGITS.astype(np.float64))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    # The label less the likeliest other class: image 2, a "b" of logits 1, 0, 0, comes first
    expected = {
        ("test", 2): (1, 0),
        ("test", 3): (2, 0),
        ("test", 0): (0, 1),
        ("test", 1): (1, 0),
        ("validation", 1): (2, 1),
        ("validation", 0): (2, 0),
    }
    assert [(row["split"], int(row["index"])) for row in looks] == list(expected)
    for row, (label, other) in zip(looks, expected.values(), strict=True):
        own = probabilities[int(row["index"])]
        assert (int(row["label"]), int(row["other"])) == (label, other)
        assert row["class"] == ["a", "b, or c", "d"][label]
        assert row["other_class"] == ["a", "b, or c", "d"][other]
        assert float(row["probability"]) == pytest.approx(own[label], abs=1e-6)
        assert float(row["other_probability"]) == pytest.approx(own[other], abs=1e-6)
        assert float(row["margin"]) == pytest.approx(own[label] - own[other], abs=1e-6)
        assert row["name"] == ""


def test_a_second_look_is_at_a_hundred_images_a_split_with_their_names() -> None:
    random = np.random.default_rng(1)
    outcome = metrics.Outcome(
        metrics.log_softmax(random.normal(0, 1, (250, 3))), random.integers(0, 3, 250)
    )
    names = [f"{at}.png" for at in range(250)]
    import runpy

    stage = runpy.run_path(str(Path(__file__).parents[2] / "stages/evaluate.py"))
    looks = list(stage["second_look_rows"]("test", outcome, ["a", "b", "c"], names))
    assert len(looks) == 100
    margins = [float(str(row[-1])) for row in looks]
    assert margins == sorted(margins)
    assert all(row[2] == f"{row[1]}.png" for row in looks)


def test_without_validation_images_the_test_images_are_looked_at(
    tested: Any, run_stage: Callable[[str], Any]
) -> None:
    put_splits(held_out=0)
    save_model(identity())
    assert run_stage("evaluate").code == 0
    assert [row["split"] for row in rows("second_look")] == ["test"] * 4


def test_the_validation_split_changes_no_result_of_the_test(
    tested: Any, run_stage: Callable[[str], Any]
) -> None:
    save_model(identity())
    contents = []
    for held_out in (0, 1, 2):
        put_splits(held_out=held_out)
        assert run_stage("evaluate").code == 0
        paths = sorted(Path("reports/evaluate").iterdir())
        contents.append([p.read_bytes() for p in paths if p.name != "second_look.csv"])
    assert contents[0] == contents[1] == contents[2]


def test_a_validation_split_of_another_data_set_is_refused(
    tested: Any, run_stage: Callable[[str], Any]
) -> None:
    put_splits()
    split = split_file.Split(IMAGES[:2], LABELS[:2], ["a", "b", "c", "d"], [], 255.0)
    split_file.write(Path("data/normalized/validation.npz"), split)
    save_model(identity())
    assert run_stage("evaluate").message == (
        "data/normalized/validation.npz: expected images of shape (1, 3) and the 3 classes of "
        "data/normalized/test.npz, found (1, 3) and 4 classes.\nRun `dvc repro`, which makes both "
        "again."
    )


def test_calibration_table_covers_all_images(evaluated: dict[str, Any]) -> None:
    found = rows("calibration")
    assert sum(int(row["images"]) for row in found) == 4
    assert [row["confidence"] for row in found if row["images"] == "0"] == [""] * 12


def test_the_table_of_metrics_describes_every_metric_in_order(evaluated: dict[str, Any]) -> None:
    table = rows("metrics")
    assert list(table[0]) == ["metric", "label", "unit", "better"]
    assert [row["metric"] for row in table] == list(evaluated)
    assert table[1] == {
        "metric": "accuracy", "label": "Accuracy", "unit": "proportion", "better": "higher"
    }  # fmt: skip


def test_a_metric_takes_one_entry(
    request: Any, monkeypatch: pytest.MonkeyPatch, run_stage: Callable[[str], Any]
) -> None:
    added = metrics.Metric("errors", "Errors", "images", "lower", lambda o: 4 - o.correct)
    monkeypatch.setattr(metrics, "METRICS", (*metrics.METRICS, added))
    request.getfixturevalue("project")
    put_splits()
    save_model(identity())
    assert run_stage("evaluate").code == 0
    assert json.loads(Path("reports/evaluate/metrics.json").read_text())["errors"] == 1
    assert rows("metrics")[-1] == {
        "metric": "errors", "label": "Errors", "unit": "images", "better": "lower"
    }  # fmt: skip


def put_splits(names: list[str] | None = None, held_out: int = 2) -> None:
    """Writes the test split, and as validation split its first images, labelled 2."""
    for name, count in (("test", 4), ("validation", held_out)):
        labels = LABELS if name == "test" else np.full(count, 2)
        split = split_file.Split(IMAGES[:count], labels, names or ["a", "b", "c"], [], 255.0)
        split_file.write(Path(f"data/normalized/{name}.npz"), split)


def identity() -> Any:
    """A model that gives LOGITS for their images."""
    import keras

    layers = [keras.Input((1, 3)), keras.layers.Rescaling(4.0), keras.layers.Flatten()]
    return keras.Sequential(layers)


def save_model(model: Any) -> Path:
    path = Path("models/model.keras")
    path.parent.mkdir(exist_ok=True)
    model.save(path)
    return path


@pytest.fixture
def tested(project: Any) -> Any:
    """The made project with the test split of LOGITS."""
    put_splits()
    return project


def edit_members(path: Path, edit: Callable[[str, bytes], bytes]) -> None:
    """Writes a zip file again with each member as ``edit(name, content)`` gives it."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, edit(name, content))


def test_a_model_of_other_images_is_refused(tested: Any, run_stage: Callable[[str], Any]) -> None:
    import keras

    save_model(keras.Sequential([keras.Input((5, 5)), keras.layers.Flatten()]))
    message = run_stage("evaluate").message
    assert message.startswith("models/model.keras: expected images (1, 3) as input, found (5, 5)")


@pytest.mark.parametrize("outputs", [2, 4])
def test_a_model_of_other_classes_is_refused(
    outputs: int, tested: Any, run_stage: Callable[[str], Any]
) -> None:
    import keras

    layers = [keras.layers.Flatten(), keras.layers.Dense(outputs)]
    save_model(keras.Sequential([keras.Input((1, 3)), *layers]))
    message = run_stage("evaluate").message
    assert f"expected 3 outputs, one a class, found outputs of shape ({outputs},)" in message


def test_a_model_whose_weights_are_not_finite_is_refused(
    tested: Any, run_stage: Callable[[str], Any]
) -> None:
    import keras

    layers = [keras.layers.Flatten(), keras.layers.Dense(3, name="last")]
    model = keras.Sequential([keras.Input((1, 3)), *layers], name="net")
    model.layers[-1].bias.assign([0, np.nan, 0])
    save_model(model)
    message = run_stage("evaluate").message
    assert "expected finite weights, found NaN or infinity in last/bias" in message


def test_outputs_that_are_not_finite_are_refused(
    tested: Any, run_stage: Callable[[str], Any]
) -> None:
    import keras

    layers = [keras.layers.Flatten(), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((1, 3)), keras.layers.Rescaling(4.0), *layers])
    model.layers[-1].kernel.assign(3e38 * np.eye(3))
    save_model(model)
    message = run_stage("evaluate").message
    assert "expected finite outputs, found inf for image 0 of data/normalized/test.npz" in message
    assert "The training diverged" in message
    inputs = keras.Input((1, 3))
    x = keras.layers.Flatten()(inputs)
    save_model(keras.Model(inputs, keras.ops.log(keras.ops.relu(x - 10.0))))
    message = run_stage("evaluate").message
    assert "expected finite outputs, found -inf for image 0 of data/normalized/test.npz" in message
    assert "That is a logarithm of 0 or a mask in build" in message
    assert not Path("reports").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"module": "os", "class_name": "system", "config": {}}',
     b'{"module": "keras", "class_name": "Sequential", "config": {"layers": 5}}',
     b'{"module": "keras.layers", "class_name": "Dense", "config": {"units": 3}}'],
)  # fmt: skip
def test_a_crafted_configuration_is_refused(
    content: bytes, tested: Any, run_stage: Callable[[str], Any]
) -> None:
    path = save_model(identity())
    edit_members(path, lambda name, old: content if name == "config.json" else old)
    message = run_stage("evaluate").message
    assert message.startswith("models/model.keras: expected a Keras model as train writes it")


def test_a_damaged_model_is_refused_wherever_the_damage_is(tested: Any) -> None:
    import keras

    from stages.lib import model_file

    layers = [keras.layers.Flatten(), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((1, 3)), *layers])
    path = Path("models/model.keras")
    model_file.save(model, path)
    content = path.read_bytes()
    random = np.random.default_rng(0)
    messages = []
    for at in random.integers(0, len(content), 150).tolist():
        damaged = bytearray(content)
        damaged[at] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged if at % 5 else content[:at])
        try:
            loaded = model_file.load(path)
        except UserError as error:
            messages.append(str(error))
        else:  # a bit that says nothing of the model, such as the time of a member
            for read, saved in zip(loaded.variables, model.variables, strict=True):
                assert (read.numpy() == saved.numpy()).all()
    assert len(messages) > 120
    assert {len(message.splitlines()) for message in messages} == {2}
    assert all(
        message.startswith("models/model.keras: expected a Keras model") for message in messages
    )


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken"])
def test_a_broken_model_is_not_called_missing(
    content: bytes, tested: Any, run_stage: Callable[[str], Any]
) -> None:
    save_model(identity()).write_bytes(content)
    assert run_stage("evaluate").message == (
        "models/model.keras: expected a Keras model as train writes it, found: File is not a zip "
        "file.\nDelete it and run `dvc repro`."
    )
    assert not Path("reports").exists()


def test_a_missing_model_names_the_next_step(tested: Any, run_stage: Callable[[str], Any]) -> None:
    message = run_stage("evaluate").message
    assert message.startswith("models/model.keras: not found; an earlier stage makes it")
    assert "dvc repro" in message


def test_no_test_images_are_named(project: Any, run_stage: Callable[[str], Any]) -> None:
    put_splits()
    split = split_file.Split(LOGITS[:0, None, :], LABELS[:0], ["a", "b", "c"], [], 255.0)
    split_file.write(Path("data/normalized/test.npz"), split)
    save_model(identity())
    message = run_stage("evaluate").message
    assert message.startswith("data/normalized/test.npz: expected at least one test image")


def test_predictions_are_written_row_by_row(tmp_path: Path) -> None:
    import runpy
    import tracemalloc

    stage = runpy.run_path(str(Path(__file__).parents[2] / "stages/evaluate.py"))
    logits = np.zeros((2000, 200), np.float32)
    outcome = metrics.Outcome(metrics.log_softmax(logits), np.zeros(2000, np.int64))
    assert outcome.predicted[0] == 0  # made before the measurement
    tracemalloc.start()
    count = sum(1 for _ in stage["prediction_rows"](outcome))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 2000
    assert peak < 200_000  # bytes; a row of 200 texts takes 12,000, all of them 24 million
