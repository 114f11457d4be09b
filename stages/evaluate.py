"""Evaluate: the trained model on the test split, as metrics, predictions and tables.

The validation split is looked at for labels worth a second look, and for nothing else.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from stages.lib import architectures, metrics, model_file, runtime, split_file
from stages.lib.core import config, files, stage, versions
from stages.lib.core.errors import UserError
from stages.lib.stored_images import Images

with runtime.starting():
    import keras
    import tensorflow as tf

MODEL = Path("models/model.keras")
TEST = Path("data/normalized/test.npz")
VALIDATION = Path("data/normalized/validation.npz")
REPORTS = Path("reports/evaluate")
SECOND_LOOK_COLUMNS = (
    *("split", "index", "name", "label", "class", "other", "other_class"),
    *("probability", "other_probability", "margin"),
)
SECOND_LOOKS = 100  # images of a split whose labels the model contradicts most


class Params(config.Schema, frozen=True):
    """The section ``evaluate`` of params.yaml."""

    batch_size: Annotated[int, Meta(ge=1, le=1000000, description="images at once")] = 1000
    threads: Annotated[int, Meta(ge=1, le=1024, description="threads of one operation")] = 1


@dataclass(frozen=True)
class Settings:
    """What the result depends on, beside the code and the data."""

    architecture: str
    params: Params


def read_settings() -> Settings:
    """Reads and checks the configuration."""
    versions.require("h5py", "keras", "msgspec", "numpy", "pyyaml", "tensorflow", "zlib-ng")
    versions.require("ml-dtypes", "opt-einsum", "optree")  # which both compute with
    params = config.section(config.PARAMS, "evaluate", Params)
    architecture = config.value(config.PARAMS, "model.architecture", str)
    architectures.builder(architecture)  # its import registers layers of its own
    return Settings(architecture, params)


def load_model(path: Path, test: split_file.Split) -> keras.Model:
    """The trained model.

    Raises:
        UserError: The file is missing or damaged, or its model is of another data set or diverged.
    """
    model = model_file.load(path)
    shape, num_classes = test.images.shape[1:], len(test.class_names)
    if mismatch := architectures.mismatch_of(model, shape, num_classes):
        raise UserError(
            f"{path.as_posix()}: expected {mismatch}.\n"
            "Run `dvc repro`, which trains one for this data set."
        )
    if variable := model_file.not_finite(model):
        raise UserError(
            f"{path.as_posix()}: expected finite weights, found NaN or infinity in {variable}.\n"
            "Delete it and run `dvc repro`; if it comes again, lower train.learning_rate."
        )
    return model


def logits_model(model: keras.Model) -> keras.Model:
    """The model up to its logits: without the softmax, if that is its last layer."""
    last = model.layers[-1]
    return (
        keras.Model(model.inputs[0], last.input)
        if isinstance(last, keras.layers.Softmax)
        else model
    )


def predict(
    model: keras.Model, images: Images, batch_size: int, path: Path = TEST
) -> npt.NDArray[np.float32]:
    """The outputs (N x K) of a model for the images (N x H x W or N x H x W x C) of ``path``.

    Raises:
        UserError: They are not finite, or a batch does not fit into memory.
    """
    forward = tf.function(lambda batch: model(batch, training=False), reduce_retracing=True)
    starts = range(0, len(images), batch_size)
    with runtime.enough_memory("evaluate.batch_size"):
        outputs = [forward(images[at : at + batch_size]).numpy() for at in starts]
    logits = np.concatenate(outputs)
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(broken):
        row = logits[broken[0]]
        step = "The training diverged: lower train.learning_rate or raise train.warmup, run again."
        if np.isneginf(logits[~np.isfinite(logits)]).all():
            step = "That is a logarithm of 0 or a mask in build: end in plain logits, run again."
        raise UserError(
            f"{MODEL.as_posix()}: expected finite outputs, found {row[~np.isfinite(row)][0]} for "
            f"image {broken[0]} of {path.as_posix()}, {len(broken)} images in all.\n{step}"
        )
    return logits


def prediction_rows(outcome: metrics.Outcome) -> Iterator[list[object]]:
    """One row an image: its index, actual and predicted class, and K probabilities."""
    for index, row in enumerate(outcome.probabilities):
        label, prediction = outcome.labels[index], outcome.predicted[index]
        yield [index, label, prediction, *(f"{value:.6f}" for value in row.tolist())]


def per_class_rows(scores: metrics.PerClass, class_names: Sequence[str]) -> list[list[object]]:
    """One row a class: its number, name, precision, recall, F1 and number of images."""
    values = (scores.precision, scores.recall, scores.f1)
    return [
        [label, name, *(number(column[label]) for column in values), scores.support[label]]
        for label, name in enumerate(class_names)
    ]


def number(value: float) -> str:
    """A number of six digits after the point; nothing for NaN, which is of no images."""
    return "" if math.isnan(value) else f"{value:.6f}"


def calibration_rows(bins: metrics.Calibration) -> list[list[object]]:
    """One row a bin: its edges, number of images, mean confidence and accuracy."""
    return [
        [
            f"{low:.6f}",
            f"{high:.6f}",
            images,
            number(confidence),
            number(accuracy),
        ]
        for low, high, images, confidence, accuracy in zip(
            bins.edges[:-1],
            bins.edges[1:],
            bins.images,
            bins.confidence,
            bins.accuracy,
            strict=True,
        )
    ]


def second_look_rows(
    split: str, outcome: metrics.Outcome, class_names: Sequence[str], names: Sequence[str] = ()
) -> Iterator[list[object]]:
    """The ``SECOND_LOOKS`` images whose labels the model contradicts most, the most first.

    Args:
        split: Its name.
        outcome: Of its N images.
        class_names: K names.
        names: N file names, or none.
    """
    margins, others = metrics.margins(outcome.probabilities, outcome.labels)
    for index in np.argsort(margins, kind="stable")[:SECOND_LOOKS].tolist():
        label, other = int(outcome.labels[index]), int(others[index])
        probabilities = outcome.probabilities[index, [label, other]].tolist()
        yield [
            split,
            index,
            names[index] if len(names) else "",
            label,
            class_names[label],
            other,
            class_names[other],
            *(f"{value:.6f}" for value in (*probabilities, margins[index])),
        ]


def read_validation(test: split_file.Split) -> split_file.Split:
    """The validation split; it may hold no image.

    Raises:
        UserError: It is of another data set than the test split, or the file is missing or damaged.
    """
    validation = split_file.read(VALIDATION)
    kinds = [(split.images.shape[1:], split.class_names) for split in (validation, test)]
    if kinds[0] != kinds[1]:
        raise UserError(
            f"{VALIDATION.as_posix()}: expected images of shape {test.images.shape[1:]} and the "
            f"{len(test.class_names)} classes of {TEST.as_posix()}, found "
            f"{validation.images.shape[1:]} and {len(validation.class_names)} classes.\n"
            "Run `dvc repro`, which makes both again."
        )
    return validation


def read_test() -> split_file.Split:
    """The test split.

    Raises:
        UserError: It holds no image, or the file is missing or damaged.
    """
    test = split_file.read(TEST)
    if not len(test.labels):
        raise UserError(
            f"{TEST.as_posix()}: expected at least one test image, found none.\n"
            "Add test images to the data set and run `dvc repro`."
        )
    return test


def main(settings: Settings) -> None:
    """Writes the tables of reports/evaluate/, and metrics.json last."""
    params = settings.params
    runtime.configure(params.threads)
    test = read_test()
    validation = read_validation(test)
    model = logits_model(load_model(MODEL, test))
    logits = predict(model, test.images, params.batch_size)
    outcome = metrics.Outcome(metrics.log_softmax(logits), test.labels)
    names = test.class_names
    looks = list(second_look_rows("test", outcome, names, test.names or ()))
    if len(validation.labels):
        logits = predict(model, validation.images, params.batch_size, VALIDATION)
        held_out = metrics.Outcome(metrics.log_softmax(logits), validation.labels)
        looks += second_look_rows("validation", held_out, names, validation.names or ())

    columns = [f"probability_{label}" for label in range(len(names))]
    files.write_csv(
        REPORTS / "predictions.csv",
        ["index", "actual", "predicted", *columns],
        prediction_rows(outcome),
    )
    files.write_csv(
        REPORTS / "confusion.csv",
        ["actual", "predicted"],
        ([names[a], names[p]] for a, p in zip(test.labels, outcome.predicted, strict=True)),
    )
    files.write_csv(
        REPORTS / "per_class.csv",
        ["label", "class", "precision", "recall", "f1", "support"],
        per_class_rows(metrics.per_class(outcome.confusion), names),
    )
    files.write_csv(
        REPORTS / "calibration.csv",
        ["lower", "upper", "images", "confidence", "accuracy"],
        calibration_rows(outcome.calibration),
    )
    files.write_csv(REPORTS / "second_look.csv", SECOND_LOOK_COLUMNS, looks)
    files.write_csv(
        REPORTS / "metrics.csv",
        ["metric", "label", "unit", "better"],
        ([metric.name, metric.label, metric.unit, metric.better] for metric in metrics.METRICS),
    )
    values = {metric.name: round(metric.compute(outcome), 6) for metric in metrics.METRICS}
    files.write_json(REPORTS / "metrics.json", values)
    print(
        f"Test accuracy {values['accuracy']:.4f} (95 % interval {values['accuracy_low']:.4f} to "
        f"{values['accuracy_high']:.4f}), loss {values['loss']:.4f}, {len(test.labels)} images; "
        f"more in {REPORTS.as_posix()}/"
    )


if __name__ == "__main__":
    stage.run(read_settings, main, [MODEL, TEST, VALIDATION])
