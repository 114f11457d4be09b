"""Evaluate: the trained model on the test split, as metrics, predictions and tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from stages.lib import metrics, runtime, split_file
from stages.lib.core import config, files, stage, versions
from stages.lib.core.errors import UserError

with runtime.starting():
    import keras
    import tensorflow as tf

MODEL = Path("models/model.keras")
TEST = Path("data/normalized/test.npz")
REPORTS = Path("reports/evaluate")


class Params(config.Schema, frozen=True):
    """The section ``evaluate`` of params.yaml."""

    batch_size: Annotated[int, Meta(ge=1, le=1000000, description="images at once")] = 1000
    threads: Annotated[int, Meta(ge=1, le=1024, description="threads of one operation")] = 1


def read_settings() -> Params:
    """Reads and checks the configuration."""
    versions.require("keras", "numpy", "pyyaml", "tensorflow", "zlib-ng")
    return config.section(config.PARAMS, "evaluate", Params)


def load_model(path: Path) -> keras.Model:
    """The trained model.

    Raises:
        UserError: The file is missing or no Keras model.
    """
    if not path.exists():
        raise files.missing(path)
    try:
        return keras.saving.load_model(path, compile=False)
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).strip().splitlines()[0][:160]
        raise UserError(
            f"{path.as_posix()}: expected a Keras model, found: {reason}.\n"
            "Delete it and run `dvc repro`."
        ) from None


def logits_model(model: keras.Model) -> keras.Model:
    """The model up to its logits: without the softmax, if that is its last layer."""
    last = model.layers[-1]
    return (
        keras.Model(model.inputs[0], last.input)
        if isinstance(last, keras.layers.Softmax)
        else model
    )


def predict(
    model: keras.Model, images: npt.NDArray[np.float32], batch_size: int
) -> npt.NDArray[np.float32]:
    """The outputs (N x K) of a model for images (N x H x W or N x H x W x C)."""
    forward = tf.function(lambda batch: model(batch, training=False), reduce_retracing=True)
    starts = range(0, len(images), batch_size)
    return np.concatenate([forward(images[at : at + batch_size]).numpy() for at in starts])


def summary(
    log_probabilities: metrics.Floats, labels: metrics.Labels, found: metrics.PerClass
) -> dict[str, float]:
    """The metrics of the test split, by name; a new metric is one more entry here."""
    probabilities = np.exp(log_probabilities)
    right = int((probabilities.argmax(axis=1) == labels).sum())
    low, high = metrics.wilson_interval(right, len(labels))
    return {
        "loss": metrics.cross_entropy(log_probabilities, labels),
        "accuracy": right / len(labels),
        "accuracy_low": low,
        "accuracy_high": high,
        "macro_f1": metrics.macro_f1(found),
        "expected_calibration_error": metrics.expected_calibration_error(
            metrics.calibration(probabilities, labels)
        ),
        "top2_accuracy": metrics.top_k_accuracy(probabilities, labels, 2),
        "images": len(labels),
    }


def prediction_rows(probabilities: metrics.Floats, labels: metrics.Labels) -> list[list[object]]:
    """One row an image: its index, actual and predicted class, and K probabilities."""
    predicted = probabilities.argmax(axis=1)
    return [
        [index, actual, guess, *(f"{p:.6f}" for p in row)]
        for index, (actual, guess, row) in enumerate(
            zip(labels.tolist(), predicted.tolist(), probabilities.tolist(), strict=True)
        )
    ]


def per_class_rows(found: metrics.PerClass, class_names: Sequence[str]) -> list[list[object]]:
    """One row a class: its number, name, precision, recall, F1 and number of images."""
    values = (found.precision, found.recall, found.f1)
    return [
        [label, name, *(f"{column[label]:.6f}" for column in values), found.support[label]]
        for label, name in enumerate(class_names)
    ]


def calibration_rows(found: metrics.Calibration) -> list[list[object]]:
    """One row a bin: its edges, number of images, mean confidence and accuracy."""
    return [
        [
            f"{low:.6f}",
            f"{high:.6f}",
            images,
            *(f"{x:.6f}" if images else "" for x in (sure, right)),
        ]
        for low, high, images, sure, right in zip(
            found.edges[:-1],
            found.edges[1:],
            found.images,
            found.confidence,
            found.accuracy,
            strict=True,
        )
    ]


def main(params: Params) -> None:
    """Writes the tables of reports/evaluate/, and metrics.json last."""
    runtime.configure(params.threads)
    test = split_file.read(TEST)
    model = load_model(MODEL)
    if model.input_shape[1:] != test.images.shape[1:]:
        raise UserError(
            f"{MODEL.as_posix()}: expected a model of images {test.images.shape[1:]}, found one of "
            f"{model.input_shape[1:]}.\nRun `dvc repro`, which trains one for this data set."
        )
    log_probabilities = metrics.log_softmax(
        predict(logits_model(model), test.images, params.batch_size)
    )
    probabilities = np.exp(log_probabilities)
    predicted = probabilities.argmax(axis=1)
    names: list[Any] = test.class_names
    found = metrics.per_class(metrics.confusion_matrix(test.labels, predicted, len(names)))

    columns = [f"probability_{label}" for label in range(len(names))]
    files.write_csv(
        REPORTS / "predictions.csv",
        ["index", "actual", "predicted", *columns],
        prediction_rows(probabilities, test.labels),
    )
    files.write_csv(
        REPORTS / "confusion.csv",
        ["actual", "predicted"],
        [[names[a], names[p]] for a, p in zip(test.labels, predicted, strict=True)],
    )
    files.write_csv(
        REPORTS / "per_class.csv",
        ["label", "class", "precision", "recall", "f1", "support"],
        per_class_rows(found, names),
    )
    files.write_csv(
        REPORTS / "calibration.csv",
        ["lower", "upper", "images", "confidence", "accuracy"],
        calibration_rows(metrics.calibration(probabilities, test.labels)),
    )
    values = summary(log_probabilities, test.labels, found)
    files.write_json(REPORTS / "metrics.json", {k: round(v, 6) for k, v in values.items()})
    print(
        f"Test accuracy {values['accuracy']:.4f} (95 % interval {values['accuracy_low']:.4f} to "
        f"{values['accuracy_high']:.4f}), loss {values['loss']:.4f}, {len(test.labels)} images; "
        f"more in {REPORTS.as_posix()}/"
    )


if __name__ == "__main__":
    stage.run(read_settings, main, [MODEL, TEST])
