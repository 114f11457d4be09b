"""What each key of the section train that a plain training does without changes in its result."""

import csv
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.lib import architectures, split_file
from stages.lib.training import checkpoint, loop, starting

pytestmark = pytest.mark.usefixtures("tensorflow")

ROOT = Path(__file__).parents[2]
MODEL = Path("models/model.keras")
REPORTS = Path("reports/train")


def quick_first(cases: list[Any]) -> list[Any]:
    """The cases of a test, of which the quick tests take the first."""
    rest = (case if isinstance(case, tuple) else (case,) for case in cases[1:])
    return [cases[0], *(pytest.param(*case, marks=pytest.mark.slow) for case in rest)]


def history() -> list[dict[str, float]]:
    with (REPORTS / "history.csv").open() as stream:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]


def metrics() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((REPORTS / "metrics.json").read_text())
    return content


def outputs() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in [MODEL, *sorted(REPORTS.iterdir())]}


def train(ready: Any, run_stage: Callable[[str], Any], **params: Any) -> Any:
    """The finished training of the made project with more keys, which stay in params.yaml."""
    ready.params["train"] |= params
    ready.save()
    finished = run_stage("train")
    assert finished.code == 0, finished.err
    return finished


def scores(name: str) -> tuple[float, float]:
    """The loss and the accuracy of the saved model on a split, by NumPy."""
    import keras

    split = split_file.read(Path(f"data/normalized/{name}.npz"))
    logits = keras.saving.load_model(MODEL)(split.images).numpy().astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    correct = logits.argmax(axis=1) == split.labels
    return float(-logs[np.arange(len(logs)), split.labels].mean()), float(correct.mean())


def probabilities_loss(name: str) -> float:
    """The loss of the saved model, which ends in a softmax, on a split."""
    import keras

    split = split_file.read(Path(f"data/normalized/{name}.npz"))
    found = keras.saving.load_model(MODEL)(split.images).numpy().astype(np.float64)
    return float(-np.log(found[np.arange(len(found)), split.labels]).mean())


@pytest.fixture
def overfitting(ready: Any) -> Any:
    """The made project with labels that cannot be learnt: the validation loss falls, then rises."""
    random = np.random.default_rng(3)
    for name in ("train", "validation"):
        path = Path(f"data/normalized/{name}.npz")
        split = split_file.read(path)
        labels = np.where(random.random(len(split.labels)) < 0.35, 1 - split.labels, split.labels)
        split_file.write(path, replace(split, labels=labels))
    ready.params["model"]["mlp"] = {"hidden_units": [64], "dropout": 0.0}
    ready.params["train"] |= {
        "epochs": 12, "learning_rate": 0.1, "label_smoothing": 0.0, "schedule": "constant",
        "warmup": 0.0, "augmentation": {},
    }  # fmt: skip
    return ready


def test_keys_at_their_defaults_leave_every_byte_as_it_is(
    ready: Any, run_stage: Callable[[str], Any]
) -> None:
    train(ready, run_stage)
    expected = outputs()
    assert b"train.keep" not in expected["run.json"]
    train(
        ready, run_stage, keep="last", monitor="val_loss", patience=None, optimizer_arguments={},
        class_weights="none", standardize=False, precision="float32",
        deterministic=True,
        augmentation={
            **ready.params["train"]["augmentation"], "fill": "black", "flip_vertical": False,
            "brightness": 0.0, "contrast": 0.0, "mixup": 0.0, "cutmix": 0.0,
        },
    )  # fmt: skip
    assert outputs() == expected


@pytest.mark.parametrize("deterministic", [True, False])
def test_operations_are_deterministic_where_a_gpu_computes_unless_that_is_given_up(
    deterministic: bool,
    ready: Any,
    run_stage: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import tensorflow as tf

    asked: list[bool] = []
    train(ready, run_stage, deterministic=deterministic)
    expected = {name: content for name, content in outputs().items() if name != "run.json"}
    devices = tf.config.list_physical_devices
    gpus = {"GPU": ["one"]}
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind=None: gpus.get(kind) or devices(kind)
    )
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda _: {"device_name": "made"}
    )
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: asked.append(True))
    assert "Runs on 1 GPU: made." in train(ready, run_stage).out
    assert asked == [True] * deterministic
    assert {name: outputs()[name] for name in expected} == expected


@pytest.mark.parametrize("monitor", quick_first(["val_loss", "val_accuracy"]))
def test_the_best_epoch_is_kept(
    monitor: str, overfitting: Any, run_stage: Callable[[str], Any]
) -> None:
    train(overfitting, run_stage)
    last = history()
    train(overfitting, run_stage, keep="best", monitor=monitor)
    assert history() == last
    values = [row[monitor] for row in last]
    best = 1 + values.index(min(values) if monitor == "val_loss" else max(values))
    assert best < 12
    assert metrics()["best_epoch"] == best
    assert metrics()["epochs"] == 12
    row = last[best - 1]
    assert metrics()["train_loss"] == row["loss"]
    assert metrics()[monitor] == row[monitor]
    assert scores("validation") == pytest.approx((row["val_loss"], row["val_accuracy"]), rel=1e-4)
    assert scores("validation")[0] != pytest.approx(last[-1]["val_loss"], rel=1e-3)
    assert json.loads((REPORTS / "run.json").read_text())["parameters"]["train.keep"] == "best"


def test_a_training_ends_when_patience_does(
    overfitting: Any, run_stage: Callable[[str], Any]
) -> None:
    train(overfitting, run_stage)
    whole = history()
    finished = train(overfitting, run_stage, patience=2)
    rows = history()
    losses = [row["val_loss"] for row in rows]
    assert rows == whole[: len(rows)]
    assert len(rows) == 1 + losses.index(min(losses)) + 2 < 12
    assert f"No better val_loss since epoch {len(rows) - 2}: the training ends." in finished.out
    assert metrics()["epochs"] == len(rows)
    assert "best_epoch" not in metrics()
    assert scores("validation")[0] == pytest.approx(losses[-1], rel=1e-4)


@pytest.mark.parametrize(
    ("key", "value", "plain"), [("keep", "best", "last"), ("patience", 3, "null")]
)
def test_the_best_epoch_needs_a_validation_split(
    key: str, value: Any, plain: str, ready: Any, run_stage: Callable[[str], Any]
) -> None:
    path = Path("data/normalized/validation.npz")
    split = split_file.read(path)
    split_file.write(path, replace(split, images=split.images[:0], labels=split.labels[:0]))
    ready.params["train"][key] = value
    ready.save()
    message = run_stage("train").message
    assert message.startswith(
        f"params.yaml: train.{key}: expected {plain} without a validation split, found {value}.\n"
    )
    assert "normalize.validation_fraction" in message
    assert not MODEL.exists()


def test_momentum_is_handed_to_the_optimizer(ready: Any, run_stage: Callable[[str], Any]) -> None:
    train(ready, run_stage, optimizer="sgd", learning_rate=0.01)
    plain = metrics()["train_loss"]
    train(ready, run_stage, optimizer_arguments={"momentum": 0.9})
    assert metrics()["train_loss"] < 0.9 * plain


@pytest.mark.parametrize("keep", quick_first(["best", "last"]))
def test_with_an_average_validation_and_model_are_those_of_the_averaged_weights(
    keep: str, overfitting: Any, run_stage: Callable[[str], Any]
) -> None:
    train(overfitting, run_stage)
    raw = history()
    train(
        overfitting, run_stage, keep=keep,
        optimizer_arguments={"use_ema": True, "ema_momentum": 0.95},
    )  # fmt: skip
    rows = history()
    assert [row["loss"] for row in rows] == [row["loss"] for row in raw]  # training is the same
    assert rows[-1]["val_loss"] != pytest.approx(raw[-1]["val_loss"], rel=1e-3)
    losses = [row["val_loss"] for row in rows]
    epoch = 1 + losses.index(min(losses)) if keep == "best" else 12
    assert metrics()["val_loss"] == losses[epoch - 1]
    assert scores("validation")[0] == pytest.approx(losses[epoch - 1], rel=1e-4)
    assert (epoch < 12) == (keep == "best")


def test_balanced_classes_recall_the_rare_one_as_often(
    ready: Any, run_stage: Callable[[str], Any]
) -> None:
    random = np.random.default_rng(1)
    for name in ("train", "validation"):  # one image in ten is of class 1, and little brighter
        path = Path(f"data/normalized/{name}.npz")
        labels = (np.arange(200) % 10 == 0).astype(np.int64)
        noise = random.random((200, 4, 4)) * 0.8 + 0.1 * labels[:, None, None]
        images = noise.astype(np.float32)
        split_file.write(path, replace(split_file.read(path), images=images, labels=labels))

    def recalls() -> Any:
        import keras

        split = split_file.read(Path("data/normalized/validation.npz"))
        predicted = keras.saving.load_model(MODEL)(split.images).numpy().argmax(axis=1)
        return [(predicted[split.labels == label] == label).mean() for label in (0, 1)]

    train(ready, run_stage, augmentation={}, label_smoothing=0.0, epochs=8, learning_rate=0.01)
    before, plain = recalls(), metrics()
    assert before[0] > 0.9
    train(ready, run_stage, class_weights="balanced")
    after = recalls()
    assert after[1] > before[1] + 0.3
    assert sum(after) > sum(before)
    assert scores("validation")[0] == pytest.approx(metrics()["val_loss"], rel=1e-4)  # not weighted
    assert metrics()["untrained_loss"] == plain["untrained_loss"]


def test_standardization_travels_with_the_model(
    ready: Any, run_stage: Callable[[str], Any]
) -> None:
    for name in ("train", "validation", "test"):  # faint images
        path = Path(f"data/normalized/{name}.npz")
        split = split_file.read(path)
        split_file.write(path, replace(split, images=(split.images[:] / 50).astype(np.float32)))
    train(ready, run_stage, augmentation={}, label_smoothing=0.0, epochs=2)
    plain = metrics()["val_loss"]
    train(ready, run_stage, standardize=True)
    assert metrics()["val_loss"] < 0.5 * plain
    assert scores("validation")[0] == pytest.approx(metrics()["val_loss"], rel=1e-2)
    names = [layer["type"] for layer in json.loads((REPORTS / "run.json").read_text())["layers"]]
    assert names == ["InputLayer", "Rescaling", "Flatten", "Dense", "Dropout", "Dense"]
    assert run_stage("evaluate").code == 0
    assert json.loads(Path("reports/evaluate/metrics.json").read_text())["accuracy"] > 0.9


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_training_in_16_bits_has_logits_in_float32(
    precision: str, ready: Any, run_stage: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Any] = []
    begin = loop.Loop.__init__

    def spy(self: loop.Loop, model: Any, *arguments: Any) -> None:
        trained.append(model)
        begin(self, model, *arguments)

    monkeypatch.setattr(loop.Loop, "__init__", spy)
    monkeypatch.setattr("stages.lib.training.precision.remark", "{} is slow here".format)
    finished = train(ready, run_stage, precision=precision, epochs=1)
    types = [layer.compute_dtype for layer in trained[0].layers if layer.weights]
    assert types == [precision, "float32"]
    assert f"train.precision: {precision} is slow here.\n" in finished.out


@pytest.mark.parametrize(
    ("network", "precision"),
    quick_first([("mlp", "float16"), ("cnn", "bfloat16"), ("cnn", "float16")]),
)
def test_a_training_in_16_bits_makes_a_model_in_float32(
    network: str, precision: str, ready: Any, run_stage: Callable[[str], Any]
) -> None:
    cnn = {"channels": [4, 8], "convolutions": [1, 1], "dropout": 0.2}
    ready.params["model"] |= {"architecture": network, "cnn": cnn, "output": "softmax"}
    train(
        ready, run_stage, augmentation={"flip": True}, label_smoothing=0.0, temperature="validation"
    )
    plain, first = metrics(), outputs()
    train(ready, run_stage, precision=precision)
    found = metrics()
    assert found["untrained_loss"] == plain["untrained_loss"]  # the same weights, in float32
    assert found["train_loss"] != plain["train_loss"]
    assert found["train_loss"] == pytest.approx(plain["train_loss"], abs=0.05)
    assert found["val_loss"] == pytest.approx(plain["val_loss"], abs=0.05)
    assert found["val_loss"] < 0.9 * found["untrained_loss"]  # it is the trained network's
    expected = pytest.approx(found["calibrated_val_loss"], rel=1e-4, abs=1e-6)
    assert probabilities_loss("validation") == expected
    with zipfile.ZipFile(MODEL) as archive:
        assert precision.encode() not in archive.read("config.json")
    assert run_stage("evaluate").code == 0
    second = outputs()
    train(ready, run_stage)
    assert outputs() == second
    train(ready, run_stage, precision="float32")
    assert outputs() == first


@pytest.mark.parametrize(
    "augmentation",
    quick_first(
        [
            {"mixup": 1},
            {"flip_vertical": True},
            {"brightness": 0.5},
            {"contrast": 0.9},
            {"cutmix": 1},
        ]
    ),
    ids=str,
)
def test_an_augmentation_changes_what_is_trained_on(
    augmentation: dict[str, Any], ready: Any, run_stage: Callable[[str], Any]
) -> None:
    train(ready, run_stage, augmentation={}, epochs=2, label_smoothing=0.0)
    plain = metrics()
    train(ready, run_stage, augmentation=augmentation)
    assert metrics()["train_loss"] != pytest.approx(plain["train_loss"], rel=1e-3)
    assert metrics()["untrained_loss"] == plain["untrained_loss"]
    assert scores("validation")[0] == pytest.approx(metrics()["val_loss"], rel=1e-3)


@pytest.mark.parametrize("fill", quick_first(["edge", "white"]))
def test_what_fills_the_gaps_changes_what_is_trained_on(
    fill: str, ready: Any, run_stage: Callable[[str], Any]
) -> None:
    losses = []
    for chosen in ("black", fill):
        train(ready, run_stage, augmentation={"shift": 2, "fill": chosen}, epochs=2)
        losses.append(metrics()["train_loss"])
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize(
    "augmentation",
    quick_first(
        [{"shift": 1}, {"flip_vertical": True, "flip": True}, {"brightness": 0.5}, {"mixup": 1}]
    ),
    ids=str,
)
def test_augmented_images_are_kept_beside_the_originals(
    augmentation: dict[str, Any], ready: Any, run_stage: Callable[[str], Any]
) -> None:
    train(ready, run_stage, augmentation=augmentation, epochs=1)
    shown = split_file.read(REPORTS / "augmented.npz")
    first = split_file.read(Path("data/normalized/train.npz"))
    images = shown.images[:].reshape(6, 6, 4, 4)
    assert shown.names == ["original", *["augmented"] * 5] * 6
    assert shown.labels.tolist() == np.repeat(first.labels[:6], 6).tolist()
    assert np.array_equal(images[:, 0], first.images[:6])
    changed = images[:, 1:] != images[:, :1]
    assert changed.any(axis=(2, 3)).mean() > 0.5
    if "flip" in augmentation:
        for row in images:
            flips = [row[0][::down, ::across] for down in (1, -1) for across in (1, -1)]
            assert all(any(np.array_equal(image, flip) for flip in flips) for image in row)
    train(ready, run_stage, augmentation={})
    assert split_file.read(REPORTS / "augmented.npz").images.shape == (0, 4, 4)


def interrupt_and_run_again(
    ready: Any, run_stage: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that ends after its second epoch, and one that goes on from there."""
    save = checkpoint.Checkpoint.save

    def ending(self: checkpoint.Checkpoint, variables: Any, rows: Any) -> None:
        save(self, variables, rows)
        if len(rows) == 2:
            raise MemoryError("enough for a test")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpoint, "save", ending)
        assert "enough for a test" in run_stage("train").message
    resumed = train(ready, run_stage)
    assert "Going on after epoch 2" in resumed.out


INTERRUPTED: list[dict[str, Any]] = [
    {"augmentation": {"flip_vertical": True, "brightness": 0.2, "contrast": 0.3, "cutmix": 1}},
    {"augmentation": {"shift": 1, "rotation": 20, "fill": "edge"}},
    {"augmentation": {"mixup": 0.2}},
    {"class_weights": "balanced", "standardize": True},
    {"optimizer_arguments": {"use_ema": True, "ema_momentum": 0.9, "global_clipnorm": 0.5}},
    {"keep": "best"},
    {"keep": "best", "monitor": "val_accuracy", "patience": 3},
    {"precision": "float16", "augmentation": {"shift": 1}},
    {"precision": "bfloat16", "keep": "best"},
]


@pytest.mark.parametrize("keys", quick_first(INTERRUPTED), ids=str)
def test_interrupted_and_run_again_gives_the_bytes_of_an_uninterrupted_training(
    keys: dict[str, Any],
    overfitting: Any,
    run_stage: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train(overfitting, run_stage, epochs=5, **keys)
    expected = outputs()
    interrupt_and_run_again(overfitting, run_stage, monkeypatch)
    assert outputs() == expected


KILLED = """
import os, runpy, signal
from stages.lib.training import checkpoint

save = checkpoint.Checkpoint.save
def dying(self, variables, history):
    save(self, variables, history)
    if len(history) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.Checkpoint.save = dying
runpy.run_module("stages.train", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_with_every_key_and_run_again_gives_the_bytes_of_an_uninterrupted_training(
    overfitting: Any, run_stage: Callable[[str], Any]
) -> None:
    every = {key: value for keys in INTERRUPTED for key, value in keys.items()}
    train(overfitting, run_stage, epochs=4, **every)
    expected = outputs()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED], env=environment, capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    finished = subprocess.run(
        [sys.executable, "-m", "stages.train"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Going on after epoch 2" in finished.stdout, finished.stderr
    assert outputs() == expected


OWN = Path("data/weights/own.keras")


def start_with(ready: Any, content: bytes) -> None:
    """Lets the next trainings start from a model's file."""
    file = {"name": OWN.name, "sha256": hashlib.sha256(content).hexdigest()}
    ready.weights["own"] = {**ready.weights["none"], "files": {"values": file}}
    ready.params["model"]["weights"] = "own"
    OWN.write_bytes(content)
    starting.SUMS.write_text(f"{file['sha256']}  {OWN.name}\n", encoding="utf-8", newline="\n")


def start_from(ready: Any, run_stage: Callable[[str], Any], **params: Any) -> None:
    """Lets the next trainings start from a model of two classes with other names."""
    train(ready, run_stage, **params)
    start_with(ready, MODEL.read_bytes())
    MODEL.unlink()
    for name in ("train", "validation", "test"):
        path = Path(f"data/normalized/{name}.npz")
        split_file.write(path, replace(split_file.read(path), class_names=["dark", "bright"]))


def test_a_training_goes_on_from_other_weights(ready: Any, run_stage: Callable[[str], Any]) -> None:
    start_from(ready, run_stage, augmentation={}, label_smoothing=0.0)
    first = history()
    finished = train(ready, run_stage)
    assert history()[0]["loss"] < 0.9 * first[0]["loss"]
    assert "Starts from own; layers below the last that have its values: 1" in finished.out
    assert "Starting loss on one batch" in finished.out
    parameters = json.loads((REPORTS / "run.json").read_text())["parameters"]
    assert parameters["model.weights"] == "own"


def test_none_starts_from_none_though_a_file_of_an_entry_before_lies_there(
    ready: Any, run_stage: Callable[[str], Any]
) -> None:
    train(ready, run_stage)
    expected = outputs()
    OWN.write_bytes(MODEL.read_bytes())
    train(ready, run_stage)
    assert outputs() == expected


@pytest.mark.parametrize("precision", quick_first(["float32", "bfloat16"]))
def test_frozen_layers_are_trained_when_the_frozen_epochs_are_over(
    precision: str, ready: Any, run_stage: Callable[[str], Any]
) -> None:
    import keras

    def hidden(path: Path) -> Any:
        model = keras.saving.load_model(path)
        assert all(layer.trainable for layer in model.layers)
        return model.layers[1].get_weights()[0]

    start_from(ready, run_stage, epochs=3)
    before = hidden(OWN)
    train(ready, run_stage, frozen_epochs=3, precision=precision)
    assert np.array_equal(hidden(MODEL), before)
    frozen, rates = history(), [row["learning_rate"] for row in history()]
    train(ready, run_stage, epochs=5, fine_tuning_factor=0.01)
    near = np.abs(hidden(MODEL) - before).max()
    assert 0 < near < 0.01
    assert [row["loss"] for row in history()][:3] == [row["loss"] for row in frozen]
    assert [row["learning_rate"] for row in history()][:3] == rates
    train(ready, run_stage, fine_tuning_factor=1.0)
    assert np.abs(hidden(MODEL) - before).max() > 10 * near


def test_penalties_of_frozen_layers_are_in_every_score(
    ready: Any, run_stage: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    plain = architectures.build

    def penalized(*given: Any) -> Any:
        model = plain(*given)
        model.layers[1].kernel.regularizer = keras.regularizers.L2(0.5)
        return model

    monkeypatch.setattr(architectures, "build", penalized)
    start_from(ready, run_stage, augmentation={}, label_smoothing=0.0)
    first = {}
    for frozen in (0, 2):
        printed = train(ready, run_stage, frozen_epochs=frozen, epochs=3, learning_rate=1e-9).out
        (first[frozen],) = re.findall(r"Starting loss on one batch: ([0-9.]+)", printed)
    assert first[0] == first[2]
    losses = [row["val_loss"] for row in history()]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-4)
    assert json.loads((REPORTS / "run.json").read_text())["penalties"] is True


@pytest.mark.parametrize(
    ("weights", "frozen", "expected"),
    [
        (False, 1, "expected 0, as model.weights is none; found 1.\nName weights"),
        (True, 5, "expected at most train.epochs, 4; found 5.\nLower it"),
    ],
)
def test_frozen_epochs_that_cannot_be(
    weights: bool, frozen: int, expected: str, ready: Any, run_stage: Callable[[str], Any]
) -> None:
    if weights:
        start_from(ready, run_stage)
    ready.params["train"]["frozen_epochs"] = frozen
    ready.save()
    message = run_stage("train").message
    assert message.startswith(f"params.yaml: train.frozen_epochs: {expected}")
    assert not MODEL.exists()


def test_a_network_of_one_layer_has_nothing_to_freeze(
    ready: Any, run_stage: Callable[[str], Any]
) -> None:
    ready.params["model"]["mlp"] = {"hidden_units": [], "dropout": 0.0}
    train(ready, run_stage, epochs=2, augmentation={})
    values = MODEL.read_bytes()
    start_with(ready, values)
    finished = train(ready, run_stage)  # of the same classes: its one layer starts from them
    assert "layers below the last that have its values: 0" in finished.out
    assert "Starting loss on one batch" in finished.out
    ready.params["train"]["frozen_epochs"] = 1
    ready.save()
    assert run_stage("train").message.startswith(
        "params.yaml: train.frozen_epochs: expected 0, as the network has no weights below its "
        "last layer; found 1.\n"
    )


FROZEN: list[tuple[str, dict[str, Any]]] = [
    ("mlp", {"frozen_epochs": 2, "optimizer_arguments": {"use_ema": True, "ema_momentum": 0.9}}),
    ("mlp", {"frozen_epochs": 3, "keep": "best", "augmentation": {"shift": 1}}),
    ("cnn", {"frozen_epochs": 1, "precision": "bfloat16", "standardize": True}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("network", "keys"), FROZEN, ids=str)
def test_a_training_with_frozen_epochs_is_resumed_with_the_same_bytes(
    network: str,
    keys: dict[str, Any],
    ready: Any,
    run_stage: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cnn = {"channels": [4, 8], "convolutions": [1, 1], "dropout": 0.2}
    ready.params["model"] |= {"architecture": network, "cnn": cnn}
    start_from(ready, run_stage, epochs=2, label_smoothing=0.0)
    train(ready, run_stage, epochs=4, **keys)
    expected = outputs()
    train(ready, run_stage)
    assert outputs() == expected
    interrupt_and_run_again(ready, run_stage, monkeypatch)
    assert outputs() == expected
    last = history()[(metrics().get("best_epoch") or 4) - 1]
    assert scores("validation")[0] == pytest.approx(last["val_loss"], rel=1e-3)


def test_a_checkpoint_of_other_weights_is_not_gone_on_from(
    ready: Any, run_stage: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    start_from(ready, run_stage, epochs=3)
    first = OWN.read_bytes()
    train(ready, run_stage)
    expected = outputs()
    start_with(ready, MODEL.read_bytes())
    monkeypatch.setattr(checkpoint.Checkpoint, "remove", lambda _: None)
    train(ready, run_stage)
    assert list(checkpoint.FOLDER.iterdir())
    start_with(ready, first)
    assert "Going on" not in train(ready, run_stage).out
    assert outputs() == expected
