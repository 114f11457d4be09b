"""What is known of one side of a comparison: a folder of the project and DVC's outputs for it.

Whatever cannot be had is an ``Unknown`` with its reason, never an empty value: an empty answer
would read as "no change".
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from stages.lib.core import config, files
from stages.lib.core.errors import UserError
from stages.lib.core.versions import ENVIRONMENT
from stages.lib.reporting import stage_outputs
from tools.compare import dvc_state, trainings

METRICS = "reports/evaluate/metrics.json"
MEASURES = "reports/evaluate/metrics.csv"
PREDICTIONS = "reports/evaluate/predictions.csv"
TRAINING = "reports/train/metrics.json"
HISTORY = "reports/train/history.csv"
TEST = "data/normalized/test.npz"
RAW = "data/raw"
MODEL = "models/model.keras"

_LONGEST = 300  # letters of a reason

T = TypeVar("T")


@dataclass(frozen=True)
class Unknown:
    """Why something is not known."""

    reason: str


@dataclass(frozen=True)
class Labels:
    """What was predicted for the test images.

    Attributes:
        actual: N labels, 0 to K - 1.
        predicted: N labels, 0 to K - 1.
        num_classes: K.
        probabilities: N x K, or None where the table lacks them.
    """

    actual: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    num_classes: int
    probabilities: npt.NDArray[np.float64] | None = None

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """N: whether the predicted label is the actual one."""
        return np.equal(self.actual, self.predicted)


@dataclass(frozen=True)
class Measure:
    """How a metric is shown, as reports/evaluate/metrics.csv says it.

    Attributes:
        metric: Its name in metrics.json.
        label: Its name for a reader.
        unit: ``nats``, ``proportion``, ``images`` or empty.
        better: ``higher``, ``lower`` or empty.
    """

    metric: str
    label: str
    unit: str = ""
    better: str = ""


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        name: What a reader calls it: a short hash, or the work tree.
        settings: Values by dotted key, by file: params.yaml, the active entry of datasets.yaml,
            that of weights.yaml, environment.yaml.
        class_names: K names, or none.
        lock: The stages as dvc.lock recorded them.
        pending: The stages whose recorded results do not belong to the side's code, parameters
            and data, each with what changed.
        metrics: Of the test split, by name.
        training: Metrics of the training, by name.
        history: Columns by name, a value an epoch, NaN where there is none.
        measures: How to show each metric of the test split, in order; none if not known.
        labels: Actual and predicted labels of the test images.
        trainings: Those of this side's own training, then those of other seeds, by seed; none
            where its own are not known.
        lost: Seeds that were trained and whose predictions are no longer in the cache.
        again: Whether the labels are those of its training made again here, as neither the cache
            nor a remote has those that dvc.lock recorded.
    """

    name: str
    settings: dict[str, dict[str, object] | Unknown]
    class_names: list[str]
    lock: dvc_state.Lock | Unknown
    pending: dict[str, list[str]] | Unknown
    metrics: dict[str, float] | Unknown
    training: dict[str, float] | Unknown
    history: dict[str, npt.NDArray[np.float64]] | Unknown
    measures: list[Measure]
    labels: Labels | Unknown
    trainings: dict[int, Labels]
    lost: list[int]
    again: bool = False


def read(name: str, folder: Path, fetch: Callable[[str], Path]) -> Side:
    """All that can be known of a side.

    Args:
        name: Of the side.
        folder: Holds the files that Git tracks.
        fetch: The path of an output that DVC tracks, which may raise a UserError.
    """

    def known(get: Callable[[], T]) -> T | Unknown:
        try:
            return get()
        except UserError as error:
            reason = str(error).splitlines()[0]
            place = "/".join(folder.resolve().parts[-2:])  # DVC names it as seen from here
            reason = re.sub(rf"[^\s']*{re.escape(place)}/", "", reason)
            return Unknown(reason.rstrip(".")[:_LONGEST])

    def of(file: str) -> str:
        return str(folder / file)

    params = known(lambda: config.read(of(config.PARAMS)))
    entry = known(lambda: _active_entry(of(config.DATASETS), params, "dataset"))
    weights = known(lambda: _active_entry(of(config.WEIGHTS), params, "model.weights"))
    lock = known(lambda: dvc_state.read_lock(folder / "dvc.lock"))
    labels = known(lambda: read_labels(fetch(PREDICTIONS)))
    measures = known(lambda: _read_measures(fetch(MEASURES)))
    trained, lost = _trainings(lock, labels)
    again = isinstance(labels, Unknown) and bool(trained)
    if again:  # the first is that of its own seed
        labels = next(iter(trained.values()))
    versions = known(lambda: dvc_state.flatten(config.read(of(ENVIRONMENT))))
    return Side(
        name=name,
        settings={
            config.PARAMS: params if isinstance(params, Unknown) else dvc_state.flatten(params),
            config.DATASETS: entry if isinstance(entry, Unknown) else dvc_state.flatten(entry),
            config.WEIGHTS: weights if isinstance(weights, Unknown) else dvc_state.flatten(weights),
            ENVIRONMENT: versions,
        },
        class_names=[] if isinstance(entry, Unknown) else _class_names(entry),
        lock=lock,
        pending=known(lambda: dvc_state.pending(folder)),
        metrics=known(lambda: _read_metrics(folder / METRICS)),
        training=known(lambda: _read_metrics(folder / TRAINING)),
        history=known(lambda: stage_outputs.read_history(folder / HISTORY)),
        measures=[] if isinstance(measures, Unknown) else measures,
        labels=labels,
        trainings=trained,
        lost=lost,
        again=again,
    )


def _active_entry(file: str, params: dict[str, Any] | Unknown, key: str) -> dict[str, Any]:
    """The entry of a catalogue that a key names; empty where an older side has no such key."""
    if isinstance(params, Unknown):
        raise UserError(params.reason)
    name = dvc_state.flatten(params).get(key)
    if name is None and key == "model.weights":
        return {}
    if not isinstance(entry := config.read(file).get(str(name)), dict):
        raise UserError(f"{file}: has no entry {name}")
    return entry


def _class_names(entry: dict[str, Any]) -> list[str]:
    """The English names, of whatever shape an earlier or unchecked catalogue is."""
    found = entry.get("class_names")
    names = found.get("en") if isinstance(found, dict) else found
    return [str(name) for name in names] if isinstance(names, list) else []


def _read_metrics(path: Path) -> dict[str, float]:
    found = stage_outputs.read_json(path, ())
    values = {
        key: value
        for key, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
    }
    if not values:
        raise UserError(f"{path.as_posix()}: holds no numbers, found {json.dumps(found)[:60]}")
    return values


def _read_measures(path: Path) -> list[Measure]:
    return [
        Measure(
            row["metric"],
            row.get("label") or row["metric"],
            row.get("unit", ""),
            row.get("better", ""),
        )
        for row in files.read_csv(path)
        if row.get("metric")
    ]


def _trainings(
    lock: dvc_state.Lock | Unknown, labels: Labels | Unknown
) -> tuple[dict[int, Labels], list[int]]:
    """The labels by seed, a side's own first, and the seeds whose predictions are lost."""
    own = None if isinstance(lock, Unknown) else trainings.own_seed(lock, MODEL)
    if isinstance(lock, Unknown) or own is None:
        return ({} if isinstance(labels, Unknown) else {-1: labels}), []
    try:
        found = trainings.find(lock, MODEL, PREDICTIONS, dvc_state.cache_folder())
    except UserError:
        found = []
    seeds = {each.seed: _predicted(each) for each in found}
    first = seeds.pop(own, None)
    first = first if isinstance(labels, Unknown) else labels
    if first is None:
        return {}, []
    fit = {
        seed: other
        for seed, other in seeds.items()
        if other is not None and np.array_equal(other.actual, first.actual)
    }
    return {own: first, **fit}, [seed for seed in seeds if seed not in fit]


def _predicted(training: trainings.Training) -> Labels | None:
    """What a training predicts; None where its predictions are lost."""
    try:
        return read_labels(training.predictions) if training.predictions else None
    except UserError:
        return None


def read_labels(path: Path) -> Labels:
    """The labels of a table of predictions.

    Raises:
        UserError: It holds something else.
    """
    rows = files.read_csv(path)
    try:
        actual, predicted = (
            np.array([row[name] for row in rows], np.int64) for name in ("actual", "predicted")
        )
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path.as_posix()}: expected labels in actual and predicted") from None
    if not rows or min(actual.min(), predicted.min()) < 0:
        raise UserError(f"{path.as_posix()}: expected labels from 0, found none or negative ones")
    columns = [name for name in rows[0] if str(name).startswith("probability_")]
    count = max(len(columns), int(max(actual.max(), predicted.max())) + 1)
    probabilities = None
    if len(columns) == count:
        try:
            probabilities = np.array([[float(row[name]) for name in columns] for row in rows])
        except (TypeError, ValueError):
            raise UserError(
                f"{path.as_posix()}: expected numbers in {columns[0]} and so on"
            ) from None
    return Labels(actual, predicted, count, probabilities)
