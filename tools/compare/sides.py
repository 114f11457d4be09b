"""What is known of one side of a comparison: a folder of the project and DVC's outputs for it.

Whatever cannot be had is an ``Unknown`` with its reason, never an empty value: an empty answer
would read as "no change".
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import yaml

from stages.lib.core import config, files
from stages.lib.core.errors import UserError
from stages.lib.core.versions import ENVIRONMENT
from stages.lib.data import catalogue
from stages.lib.reporting import stage_outputs
from tools.compare import dvc_state

METRICS = "reports/evaluate/metrics.json"
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
    """

    actual: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    num_classes: int

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """N: whether the predicted label is the actual one."""
        return np.equal(self.actual, self.predicted)


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        name: What a reader calls it: a short hash, or the work tree.
        settings: Values by dotted key, by file: params.yaml, the active entry of datasets.yaml,
            environment.yaml.
        class_names: K names, or none.
        lock: The stages as dvc.lock recorded them.
        pending: The stages whose recorded results do not belong to the side's code, parameters
            and data, each with what changed.
        metrics: Of the test split, by name.
        training: Metrics of the training, by name.
        history: Columns by name, a value an epoch, NaN where there is none.
        labels: Actual and predicted labels of the test images.
    """

    name: str
    settings: dict[str, dict[str, object] | Unknown]
    class_names: list[str]
    lock: dvc_state.Lock | Unknown
    pending: dict[str, list[str]] | Unknown
    metrics: dict[str, float] | Unknown
    training: dict[str, float] | Unknown
    history: dict[str, npt.NDArray[np.float64]] | Unknown
    labels: Labels | Unknown


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
            return Unknown(reason.replace(f"{folder.as_posix()}/", "").rstrip(".")[:_LONGEST])

    def of(file: str) -> str:
        return str(folder / file)

    params = known(lambda: config.read(of(config.PARAMS)))
    entry = known(lambda: _active_entry(of(config.DATASETS), params))
    versions = known(lambda: dvc_state.flatten(config.read(of(ENVIRONMENT))))
    return Side(
        name=name,
        settings={
            config.PARAMS: params if isinstance(params, Unknown) else dvc_state.flatten(params),
            config.DATASETS: entry if isinstance(entry, Unknown) else dvc_state.flatten(entry),
            ENVIRONMENT: versions,
        },
        class_names=[] if isinstance(entry, Unknown) else _class_names(entry),
        lock=known(lambda: _read_lock(folder / "dvc.lock")),
        pending=known(lambda: dvc_state.pending(folder)),
        metrics=known(lambda: _read_metrics(folder / METRICS)),
        training=known(lambda: _read_metrics(folder / TRAINING)),
        history=known(lambda: stage_outputs.read_history(folder / HISTORY)),
        labels=known(lambda: _read_labels(fetch(PREDICTIONS))),
    )


def _active_entry(file: str, params: dict[str, Any] | Unknown) -> dict[str, Any]:
    if isinstance(params, Unknown):
        raise UserError(params.reason)
    dataset, entries = params.get("dataset"), config.read(file)
    if not isinstance(entry := entries.get(str(dataset)), dict):
        raise UserError(f"{file}: has no entry {dataset}")
    return entry


def _class_names(entry: dict[str, Any]) -> list[str]:
    """The English names, of whatever shape an earlier or unchecked catalogue is."""
    found = entry.get("class_names")
    names = catalogue.names(found, "en") if isinstance(found, list | dict) else None
    return [str(name) for name in names] if isinstance(names, list) else []


def _read_lock(path: Path) -> dvc_state.Lock:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.as_posix()}: not found") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path.as_posix()}: not valid YAML: {str(error).splitlines()[0]}"
        ) from None
    stages = content.get("stages") if isinstance(content, dict) else None
    if not isinstance(stages, dict):
        raise UserError(f"{path.as_posix()}: holds no stages")
    return dvc_state.lock(stages)


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


def _read_labels(path: Path) -> Labels:
    rows = files.read_csv(path)
    try:
        actual, predicted = (
            np.array([row[name] for row in rows], np.int64) for name in ("actual", "predicted")
        )
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path.as_posix()}: expected labels in actual and predicted") from None
    if not rows or min(actual.min(), predicted.min()) < 0:
        raise UserError(f"{path.as_posix()}: expected labels from 0, found none or negative ones")
    columns = sum(str(name).startswith("probability_") for name in rows[0])
    return Labels(actual, predicted, max(columns, int(max(actual.max(), predicted.max())) + 1))
