"""What train and evaluate wrote, read back and checked, and what follows from it by counting."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.lib.core import files
from stages.lib.core.errors import UserError
from stages.lib.metrics import Calibration, PerClass

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Run:
    """What was trained.

    Attributes:
        parameters: Values of params.yaml by dotted key.
        versions: Library versions by package.
        images: Numbers of images by split.
        layers: One a layer: name, type, output (shape of one image's output), parameters.
    """

    parameters: dict[str, Any]
    versions: dict[str, str]
    images: dict[str, int]
    layers: list[dict[str, Any]]


@dataclass(frozen=True)
class Predictions:
    """What the model says of every test image.

    Attributes:
        actual: N labels, 0 to K - 1.
        predicted: N labels, 0 to K - 1.
        probabilities: N x K, 0 to 1.
    """

    actual: Integers
    predicted: Integers
    probabilities: Floats

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """N: whether the predicted label is the actual one."""
        return np.equal(self.actual, self.predicted)

    @property
    def confidences(self) -> Floats:
        """N: the probability of the predicted label, 0 to 1."""
        return np.take_along_axis(self.probabilities, self.predicted[:, None], axis=1)[:, 0]


@dataclass(frozen=True)
class Confusion:
    """A pair of classes that the model takes for each other.

    Attributes:
        actual: The label.
        predicted: The label that was predicted for it.
        images: How many images.
        share: Of the images of the actual class, 0 to 1.
    """

    actual: int
    predicted: int
    images: int
    share: float


def read_json(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UserError: The file is missing, no JSON object, or lacks one of ``keys``.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise files.missing(path) from None
    except ValueError as error:
        raise unexpected(path, "JSON", str(error)) from None
    found = list(content) if isinstance(content, dict) else []
    if lacking := [key for key in keys if key not in found]:
        raise unexpected(path, f"the key {lacking[0]}", ", ".join(found) or "no keys")
    return dict(content)


def read_run(path: Path) -> Run:
    """What train says that it did.

    Raises:
        UserError: The file is missing or incomplete.
    """
    content = read_json(path, ("parameters", "versions", "images", "layers"))
    return Run(*(content[key] for key in ("parameters", "versions", "images", "layers")))


def read_history(path: Path) -> dict[str, Floats]:
    """The columns of the history by name, E values each: epoch, loss, accuracy and so on.

    Raises:
        UserError: The file is missing, empty or incomplete.
    """
    rows = _rows(path, ("epoch", "loss", "accuracy"))
    return {name: _numbers(path, rows, name) for name in rows[0]}


def read_per_class(path: Path, num_classes: int) -> PerClass:
    """The scores by class, in the order of the labels.

    Raises:
        UserError: The file is missing, incomplete or about another number of classes.
    """
    rows = _rows(path, ("label", "precision", "recall", "f1", "support"))
    if [row["label"] for row in rows] != [str(label) for label in range(num_classes)]:
        labels = ", ".join(row["label"] for row in rows[:12])
        raise unexpected(path, f"the labels 0 to {num_classes - 1} in order", labels)
    precision, recall, f1 = (_numbers(path, rows, name) for name in ("precision", "recall", "f1"))
    return PerClass(precision, recall, f1, _numbers(path, rows, "support").astype(np.int64))


def read_calibration(path: Path) -> Calibration:
    """The bins of the reliability diagram.

    Raises:
        UserError: The file is missing or incomplete.
    """
    rows = _rows(path, ("lower", "upper", "images", "confidence", "accuracy"))
    lower, upper, images = (_numbers(path, rows, name) for name in ("lower", "upper", "images"))
    return Calibration(
        edges=np.append(lower, upper[-1]),
        images=images.astype(np.int64),
        confidence=_numbers(path, rows, "confidence"),
        accuracy=_numbers(path, rows, "accuracy"),
    )


def _rows(path: Path, required: Sequence[str]) -> list[dict[str, str]]:
    rows = files.read_csv(path)
    if not rows:
        raise unexpected(path, "at least one row", "none")
    for name in required:
        if name not in rows[0]:
            raise unexpected(path, f"a column {name}", ", ".join(map(str, rows[0])))
    for at, row in enumerate(rows, 1):
        if None in row.values() or None in row:  # what csv says to too few and to too many
            raise unexpected(path, f"{len(rows[0])} cells in row {at}", "another number")
    return rows


def _numbers(path: Path, rows: list[dict[str, str]], name: str) -> Floats:
    """A column of a table; an empty cell becomes NaN."""
    try:
        return np.array([row[name] or "nan" for row in rows], np.float64)
    except ValueError as error:
        raise unexpected(path, f"numbers in column {name}", str(error)) from None


def read_predictions(path: Path, labels: Integers, num_classes: int) -> Predictions:
    """The predictions for the test set whose labels are ``labels``.

    Args:
        path: A table of index, actual, predicted, probability_0 and so on, row i for image i.
        labels: N, of the test set.
        num_classes: K.

    Raises:
        UserError: The file is missing or belongs to another test set.
    """
    header = ["index", "actual", "predicted", *(f"probability_{k}" for k in range(num_classes))]
    try:
        with path.open(encoding="utf-8") as stream:
            found = stream.readline().strip().split(",")
            if found != header:
                expected = (
                    f"the columns {', '.join(header[:4])} and so on for {num_classes} classes"
                )
                raise unexpected(path, expected, f"{len(found)} columns: {', '.join(found[:6])}")
            rows = stream.readlines()
        if len(rows) != len(labels):
            raise unexpected(path, f"{len(labels)} rows, one a test image", f"{len(rows)} rows")
        table = np.loadtxt(rows, np.float64, delimiter=",", ndmin=2)
    except FileNotFoundError:
        raise files.missing(path) from None
    except ValueError as error:
        raise unexpected(path, "numbers in every cell", str(error)) from None
    if table.shape[1] != len(header):
        raise unexpected(path, f"{len(header)} cells in every row", str(table.shape[1]))
    actual, predicted = table[:, 1].astype(np.int64), table[:, 2].astype(np.int64)
    if not np.array_equal(actual, labels):
        row = int(np.flatnonzero(actual != labels)[0])
        expected = f"the labels of the test set, {labels[row]} for image {row}"
        raise unexpected(path, expected, str(actual[row]))
    if predicted.min() < 0 or predicted.max() >= num_classes:
        found_labels = f"{predicted.min()} to {predicted.max()}"
        raise unexpected(path, f"predicted labels from 0 to {num_classes - 1}", found_labels)
    return Predictions(actual, predicted, table[:, 3:])


def confusions(matrix: Integers, count: int) -> list[Confusion]:
    """The ``count`` most frequent confusions, most images first, then by label."""
    totals = matrix.sum(axis=1)
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = [divmod(int(cell), len(matrix)) for cell in order]
    return [
        Confusion(i, j, int(matrix[i, j]), float(matrix[i, j] / totals[i]))
        for i, j in pairs
        if wrong[i, j]
    ]


def mistakes(predictions: Predictions, count: int) -> list[int]:
    """Indices of the ``count`` wrong images that the model is surest of, surest first."""
    wrong = np.flatnonzero(~predictions.right)
    order = np.argsort(-predictions.confidences[wrong], kind="stable")
    return [int(index) for index in wrong[order][:count]]


def unexpected(path: Path, expected: str, found: str) -> UserError:
    """The error for a result of an earlier stage that is not as this one needs it."""
    return UserError(
        f"{path.as_posix()}: expected {expected}; found {found}.\n"
        "Run `dvc repro`, which makes it again, and see to it that nothing else writes there."
    )
