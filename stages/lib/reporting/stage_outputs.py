"""What train and evaluate wrote, read back and checked, and what follows from it by counting.

What a file repeats of another is worked out again and compared: a table that was edited, cut or
mixed with another run's is an error that names it, and no figure shows it.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from stages.lib.core import files
from stages.lib.core.errors import UserError
from stages.lib.metrics import Calibration, PerClass, per_class_of_counts, wilson_interval

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Count = Annotated[int, msgspec.Meta(ge=0)]

HISTORY_COLUMNS = ("epoch", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy")

T = TypeVar("T")

_ROUNDING = 1e-6  # evaluate prints six digits, which is half of this; the rest is for sums


class Layer(msgspec.Struct, frozen=True):
    """A layer of the network.

    Attributes:
        name: In the network.
        type: Its class in Keras.
        output: The shape of one image's output.
        parameters: How many it has.
    """

    name: str
    type: str
    output: str
    parameters: Count


class Run(msgspec.Struct, frozen=True):
    """What was trained.

    Attributes:
        parameters: Values of params.yaml by dotted key.
        versions: Library versions by package.
        images: Numbers of images by split.
        layers: From input to output.
        penalties: Whether regularizers, or losses of layers, are part of the losses of training.
    """

    parameters: dict[str, Any]
    versions: dict[str, str]
    images: dict[str, Count]
    layers: list[Layer]
    penalties: bool


@dataclass(frozen=True)
class Metric:
    """A metric of the test split, and how it is to be shown.

    Attributes:
        name: Its key.
        label: What readers call it.
        unit: ``nats``, ``proportion``, ``images`` or empty.
        better: ``higher``, ``lower`` or empty.
        value: Finite.
    """

    name: str
    label: str
    unit: str
    better: str
    value: float


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
    def correct(self) -> npt.NDArray[np.bool_]:
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
        proportion: Of the images of the actual class, 0 to 1.
    """

    actual: int
    predicted: int
    images: int
    proportion: float


def read_json(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UserError: The file is missing, no JSON object, or lacks one of ``keys``.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except FileNotFoundError:
        raise files.missing(path) from None
    except (ValueError, RecursionError) as error:
        raise unexpected(path, "JSON", str(error)) from None
    if not isinstance(content, dict):
        raise unexpected(path, "a JSON object", type(content).__name__)
    present = list(content)
    if lacking := [key for key in keys if key not in present]:
        raise unexpected(path, f"the key {lacking[0]}", ", ".join(present) or "no keys")
    return content


def _no_number(constant: str) -> float:
    raise ValueError(f"{constant}, which is no number of JSON's")


def _convert(path: Path, content: Mapping[str, Any], schema: type[T]) -> T:
    try:
        return msgspec.convert(content, schema)
    except msgspec.ValidationError as error:
        raise unexpected(path, "values as train writes them", str(error)) from None


def read_run(path: Path) -> Run:
    """What train says that it did.

    Raises:
        UserError: The file is missing, incomplete or holds another kind of values.
    """
    return _convert(path, read_json(path, Run.__struct_fields__), Run)


def read_training(path: Path, history_path: Path, history: Mapping[str, Floats]) -> dict[str, Any]:
    """The training's metrics by name, which agree with its history.

    Args:
        path: JSON of train_loss, train_accuracy, epochs, parameters, untrained_loss and, where
            images were held out, val_loss and val_accuracy; and best_epoch, where the model is
            not that of the last one.
        history_path: Where ``history`` was read.
        history: As ``read_history`` gives it.

    Raises:
        UserError: The file is missing or incomplete, or the two disagree.
    """
    names = {"train_loss": "loss", "train_accuracy": "accuracy"}
    held_out = ("val_loss", "val_accuracy")
    names |= {name: name for name in held_out if name in history}
    content = read_json(path, [*names, "epochs", "parameters", "untrained_loss"])
    for name, value in content.items():
        whole = name in ("epochs", "best_epoch", "parameters")
        check_number(path, name, value, "images" if whole else _unit_of(name))
    if lacking := [name for name in held_out if name in content and name not in history]:
        raise unexpected(history_path, f"a column {lacking[0]} as in {path.as_posix()}", "none")
    if len(history["epoch"]) != content["epochs"]:
        raise unexpected(
            history_path,
            f"{content['epochs']} epochs as in {path.as_posix()}",
            len(history["epoch"]),
        )
    epoch = content.get("best_epoch", content["epochs"])
    if not 1 <= epoch <= content["epochs"]:
        raise unexpected(path, f"a best_epoch from 1 to {content['epochs']}", epoch)
    for name, column in names.items():
        value = float(history[column][epoch - 1])
        if not math.isclose(content[name], value, rel_tol=1e-5, abs_tol=_ROUNDING):
            which = f"epoch {epoch}" if "best_epoch" in content else "the last epoch"
            raise unexpected(
                path,
                f"{name} {value:g} as in {which} of {history_path.as_posix()}",
                content[name],
            )
    return content


def _unit_of(column: str) -> str:
    """The unit of a column of the history; none of a loss, to which layers may add any number."""
    if column.endswith("loss"):
        return ""
    return "proportion" if column.endswith("accuracy") else "nats"


def check_number(path: Path, name: str, value: object, unit: str) -> None:
    """Raises an error unless ``value`` is a finite number that can have this unit."""
    wanted = {
        "proportion": "a proportion from 0 to 1",
        "images": "a whole number from 0",
        "nats": "a finite number from 0",
    }.get(unit, "a finite number")
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    if abs(number) > 2**1000 or not _possible(np.array([number], np.float64), unit)[0]:
        raise unexpected(path, f"{wanted} for {name}", json.dumps(value))


def _possible(values: Floats, unit: str) -> npt.NDArray[np.bool_]:
    """Whether each value is finite and in the range of its unit."""
    possible = np.isfinite(values)
    if unit:
        possible &= values >= 0
    if unit == "proportion":
        possible &= values <= 1
    if unit == "images":
        possible &= values == np.floor(values)
    return possible


def read_history(path: Path) -> dict[str, Floats]:
    """The columns of the history by name, E values each: epoch, loss, accuracy and so on.

    Raises:
        UserError: The file is missing, empty or incomplete, or a value is out of range.
    """
    rows = _rows(path, ("epoch", "loss", "accuracy"))
    if strange := [name for name in rows[0] if name not in HISTORY_COLUMNS]:
        raise unexpected(path, f"no columns but {', '.join(HISTORY_COLUMNS)}", strange[0])
    history = {
        name: _numbers(path, rows, name, "images" if name == "epoch" else _unit_of(name))
        for name in rows[0]
    }
    if not np.array_equal(history["epoch"], np.arange(1, len(rows) + 1)):
        raise unexpected(path, f"the epochs 1 to {len(rows)} in order", _some(rows, "epoch"))
    return history


def read_metrics(path: Path, table: Path) -> dict[str, Metric]:
    """The metrics of the test split by name, in the order to show them.

    Args:
        path: JSON, a value by name.
        table: CSV of metric, label, unit and better, one row a metric.

    Raises:
        UserError: A file is missing or incomplete, or a value is out of its unit's range.
    """
    rows = _rows(table, ("metric", "label", "unit", "better"))
    names = [row["metric"] for row in rows]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise unexpected(table, "each metric once", f"{min(repeated)} more than once")
    for column, allowed in (
        ("unit", ("nats", "proportion", "images", "")),
        ("better", ("higher", "lower", "")),
    ):
        if strange := [row[column] for row in rows if row[column] not in allowed]:
            raise unexpected(table, f"a {column} of {', '.join(allowed[:-1])} or none", strange[0])
    headline = ("accuracy", "accuracy_low", "accuracy_high", "loss", "images")
    for name in (*headline, "expected_calibration_error"):
        if name not in names:
            raise unexpected(table, f"the metric {name}", ", ".join(names))
    content = read_json(path, ())
    if sorted(content) != sorted(names):
        expected = f"the metrics of {table.as_posix()}, {', '.join(names)}"
        raise unexpected(path, expected, ", ".join(content) or "none")
    for row in rows:
        check_number(path, row["metric"], content[row["metric"]], row["unit"])
    return {
        row["metric"]: Metric(
            row["metric"], row["label"], row["unit"], row["better"], content[row["metric"]]
        )
        for row in rows
    }


def check_metrics(
    path: Path, metrics: Mapping[str, Metric], predictions: Predictions, bins: Calibration
) -> None:
    """Raises an error unless the metrics are those of the predictions, as far as those tell.

    Raises:
        UserError: A metric is not what the predictions, or the bins of them, give.
    """
    images, correct = len(predictions.actual), int(predictions.correct.sum())
    low, high = wilson_interval(correct, images)
    filled = bins.images > 0
    gaps = np.abs(bins.confidence - bins.accuracy)[filled] * bins.images[filled]
    exact = {
        "images": images,
        "accuracy": correct / images,
        "accuracy_low": low,
        "accuracy_high": high,
        "expected_calibration_error": float(gaps.sum()) / images,
    }
    for name, value in exact.items():
        if abs(metrics[name].value - value) > 3 * _ROUNDING:
            raise unexpected(path, f"{name} {value:.6g}, of the predictions", metrics[name].value)
    least, most = _loss_range(predictions)
    if not least <= metrics["loss"].value <= most:
        raise unexpected(
            path, f"loss from {least:.6g} to {most:.6g}, of the predictions", metrics["loss"].value
        )


def _loss_range(predictions: Predictions) -> tuple[float, float]:
    """Between which values the mean cross-entropy of rounded probabilities lies."""
    printed = predictions.probabilities[np.arange(len(predictions.actual)), predictions.actual]
    most = -np.log(np.maximum(printed - _ROUNDING, np.finfo(np.float64).tiny)).mean()
    unbounded = bool((printed <= _ROUNDING).any())  # a probability of 1e-300 is printed as 0
    least = -np.log(np.minimum(printed + _ROUNDING, 1)).mean()
    return float(least) - _ROUNDING, math.inf if unbounded else float(most) + _ROUNDING


def read_per_class(path: Path, predictions: Predictions) -> PerClass:
    """The scores by class, in the order of the labels.

    Raises:
        UserError: The file is missing or incomplete, or is not what the predictions give.
    """
    num_classes = predictions.probabilities.shape[1]
    rows = _rows(path, ("label", "precision", "recall", "f1", "support"))
    if [row["label"] for row in rows] != [str(label) for label in range(num_classes)]:
        raise unexpected(path, f"the labels 0 to {num_classes - 1} in order", _some(rows, "label"))
    exact = scores(predictions)

    def proportions(name: str) -> Floats:
        empty = np.flatnonzero(np.isnan(getattr(exact, name)))
        return _numbers(path, rows, name, "proportion", empty.tolist())

    printed = PerClass(
        precision=proportions("precision"),
        recall=proportions("recall"),
        f1=proportions("f1"),
        support=_numbers(path, rows, "support", "images").astype(np.int64),
    )
    for name in ("precision", "recall", "f1", "support"):
        apart = np.abs(getattr(printed, name) - getattr(exact, name)) > _ROUNDING
        if apart.any():
            label = int(np.flatnonzero(apart)[0])
            value = f"{name} {getattr(exact, name)[label]:.6g} of class {label}, of the predictions"
            raise unexpected(path, value, f"{getattr(printed, name)[label]:.6g}")
    return printed


def scores(predictions: Predictions) -> PerClass:
    """Precision, recall, F1 and number of images of every class, without a K x K matrix."""
    num_classes = predictions.probabilities.shape[1]

    def count(labels: Integers) -> Integers:
        return np.bincount(labels, minlength=num_classes).astype(np.int64)

    correct = count(predictions.actual[predictions.correct])
    predicted, actual = count(predictions.predicted), count(predictions.actual)
    return per_class_of_counts(correct, predicted, actual)


def read_calibration(path: Path, predictions: Predictions) -> Calibration:
    """The bins of the reliability diagram.

    Raises:
        UserError: The file is missing or incomplete, or is not what the predictions give.
    """
    rows = _rows(path, ("lower", "upper", "images", "confidence", "accuracy"))
    lower, upper = (_numbers(path, rows, name, "proportion") for name in ("lower", "upper"))
    edges = np.append(lower, upper[-1])
    ends = (edges[0], edges[-1])
    if ends != (0, 1) or (np.diff(edges) <= 0).any() or not np.array_equal(lower[1:], upper[:-1]):
        raise unexpected(path, "bins side by side from 0 to 1", f"{len(rows)} others")
    images = _numbers(path, rows, "images", "images").astype(np.int64)
    empty = {at for at, count in enumerate(images) if not count}
    bins = Calibration(
        edges=edges,
        images=images,
        confidence=_numbers(path, rows, "confidence", "proportion", empty),
        accuracy=_numbers(path, rows, "accuracy", "proportion", empty),
    )
    _check_bins(path, bins, predictions)
    return bins


def _check_bins(path: Path, bins: Calibration, predictions: Predictions) -> None:
    """Compares the bins with the predictions.

    Confidences are printed with six digits: one that lies at an edge may belong to either bin.
    """
    confidences, correct = predictions.confidences, predictions.correct
    inner = bins.edges[1:-1]
    first = np.searchsorted(inner, confidences - 2 * _ROUNDING, side="left")
    last = np.searchsorted(inner, confidences + 2 * _ROUNDING, side="left")
    settled, count = first == last, len(bins.images)
    least = np.bincount(first[settled], minlength=count)
    most = least + np.bincount(first[~settled], minlength=count)
    most += np.bincount(last[~settled], minlength=count)
    sums = {
        "confidence": np.bincount(first[settled], confidences[settled], count),
        "accuracy": np.bincount(first[settled], correct[settled], count),
    }
    for at, images in enumerate(bins.images.tolist()):
        if not least[at] <= images <= most[at]:
            raise unexpected(path, f"{least[at]} images in bin {at}, of the predictions", images)
        if not images or least[at] < most[at]:
            continue
        for name, total in sums.items():
            exact, printed = total[at] / images, getattr(bins, name)[at]
            if abs(printed - exact) > 2 * _ROUNDING:
                expected = f"{name} {exact:.6f} in bin {at}, of the predictions"
                raise unexpected(path, expected, f"{printed:.6f}")
    if bins.images.sum() != len(confidences):
        raise unexpected(path, f"{len(confidences)} images in all bins", bins.images.sum())


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


def _some(rows: Sequence[Mapping[str, str]], column: str) -> str:
    return ", ".join(row[column][:20] for row in rows[:12])


def _numbers(
    path: Path, rows: Sequence[Mapping[str, str]], name: str, unit: str, empty: Collection[int] = ()
) -> Floats:
    """A column of a table; the rows ``empty`` have no value, and become NaN."""
    try:
        values = np.array([row[name] or "nan" for row in rows], np.float64)
    except ValueError as error:
        raise unexpected(path, f"numbers in column {name}", str(error)) from None
    possible = _possible(values, unit)
    for at in empty:
        possible[at] = not rows[at][name]
    if not possible.all():
        at = int(np.flatnonzero(~possible)[0])
        kind = {"proportion": "a proportion", "": "a finite number"}.get(unit, "a number from 0")
        raise unexpected(path, f"{kind} in column {name} of row {at + 1}", rows[at][name] or "none")
    return values


def read_predictions(path: Path, labels: Integers, num_classes: int) -> Predictions:
    """The predictions for the test set whose labels are ``labels``.

    Args:
        path: A table of index, actual, predicted, probability_0 and so on, row i for image i.
        labels: N, of the test set.
        num_classes: K.

    Raises:
        UserError: The file is missing, damaged or belongs to another test set.
    """
    table = _prediction_table(path, len(labels), num_classes)
    whole = table[:, :3].astype(np.int64)
    if not np.array_equal(whole, table[:, :3]):
        raise unexpected(path, "whole numbers in the first three columns", "others")
    index, actual, predicted = whole.T
    if not np.array_equal(index, np.arange(len(labels))):
        raise unexpected(path, f"the indices 0 to {len(labels) - 1} in order", "others")
    if not np.array_equal(actual, labels):
        row = int(np.flatnonzero(actual != labels)[0])
        expected = f"the labels of the test set, {labels[row]} for image {row}"
        raise unexpected(path, expected, actual[row])
    if predicted.min() < 0 or predicted.max() >= num_classes:
        extremes = f"{predicted.min()} to {predicted.max()}"
        raise unexpected(path, f"predicted labels from 0 to {num_classes - 1}", extremes)
    predictions = Predictions(actual, predicted, table[:, 3:])
    _check_probabilities(path, predictions)
    return predictions


def _prediction_table(path: Path, images: int, num_classes: int) -> Floats:
    """The numbers of the table, images x (3 + K), all finite."""
    header = ["index", "actual", "predicted", *(f"probability_{k}" for k in range(num_classes))]
    try:
        with path.open(encoding="utf-8") as stream:
            columns = stream.readline().strip().split(",")
            if columns != header:
                expected = (
                    f"the columns {', '.join(header[:4])} and so on for {num_classes} classes"
                )
                names = ", ".join(name[:40] for name in columns[:6])
                raise unexpected(path, expected, f"{len(columns)} columns: {names}")
            rows = stream.readlines()
        if len(rows) != images:
            raise unexpected(path, f"{images} rows, one a test image", f"{len(rows)} rows")
        table = np.loadtxt(rows, np.float64, delimiter=",", ndmin=2, comments=None)
    except FileNotFoundError:
        raise files.missing(path) from None
    except ValueError as error:
        raise unexpected(path, "numbers in every cell", str(error)) from None
    if table.shape != (images, len(header)):
        raise unexpected(
            path, f"{images} rows of {len(header)} cells", "{} of {}".format(*table.shape)
        )
    if not np.isfinite(table).all() or np.abs(table[:, :3]).max() > 2**53:
        raise unexpected(path, "finite numbers in every cell", "others")
    return table


def _check_probabilities(path: Path, predictions: Predictions) -> None:
    """Raises an error unless every row is a distribution whose mode is predicted."""
    probabilities, num_classes = predictions.probabilities, predictions.probabilities.shape[1]
    checks = {
        "from 0 to 1": (probabilities < 0).any(axis=1) | (probabilities > 1).any(axis=1),
        "that sum to 1": np.abs(probabilities.sum(axis=1) - 1) > _ROUNDING * (1 + num_classes / 2),
        "whose largest is that of the predicted label": (
            probabilities.max(axis=1) - predictions.confidences > _ROUNDING
        ),
    }
    for wanted, failed in checks.items():
        if failed.any():
            row = int(np.flatnonzero(failed)[0])
            raise unexpected(path, f"probabilities {wanted}", f"others for image {row}")


def confusions(predictions: Predictions, count: int | None = None) -> list[Confusion]:
    """The ``count`` most frequent confusions, or all, most images first, then by label."""
    num_classes = predictions.probabilities.shape[1]
    incorrect = ~predictions.correct
    pairs, images = np.unique(
        predictions.actual[incorrect] * num_classes + predictions.predicted[incorrect],
        return_counts=True,
    )
    order = np.argsort(-images, kind="stable")[:count]
    totals = np.bincount(predictions.actual, minlength=num_classes).tolist()
    return [
        Confusion(pair // num_classes, pair % num_classes, size, size / totals[pair // num_classes])
        for pair, size in zip(pairs[order].tolist(), images[order].tolist(), strict=True)
    ]


def misclassified(predictions: Predictions, count: int) -> list[int]:
    """Indices of the ``count`` misclassified images of highest confidence, highest first."""
    incorrect = np.flatnonzero(~predictions.correct)
    order = np.argsort(-predictions.confidences[incorrect], kind="stable")
    return [int(index) for index in incorrect[order][:count]]


def unexpected(path: Path, expected: str, actual: object) -> UserError:
    """The error for a result of an earlier stage that is not as this one needs it."""
    said = " ".join(str(actual).split())
    said = said if len(said) <= 200 else f"{said[:199]}…"
    return UserError(
        f"{path.as_posix()}: expected {expected}; found {said}.\n"
        "Run `dvc repro`, which makes it again, and see to it that nothing else writes there."
    )
