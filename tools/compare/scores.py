"""What is tested of each test image: whether it is correct, its loss, its part of calibration."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from stages.lib import metrics
from tools.compare.sides import Labels

Floats = npt.NDArray[np.float64]

ACCURACY, LOSS, CALIBRATION = "accuracy", "loss", "expected_calibration_error"
_LEAST = 5e-7  # predictions.csv rounds to six digits


def correct(trainings: Sequence[Labels]) -> Floats:
    """Trainings x images: 1 where the predicted class is the actual one, else 0."""
    return np.array([labels.correct for labels in trainings], np.float64)


def by_metric(trainings: Sequence[Labels]) -> dict[str, Floats]:
    """By metric, trainings x images, values whose mean over the images is the metric.

    Loss and calibration are left out where predictions hold no probabilities. The calibration error
    is the sum of each bin's distance between confidence and accuracy, so that an image's part is
    its own distance, with the sign of its bin's. The signs are taken as fixed (the delta method).
    """
    tables = {ACCURACY: correct(trainings)}
    known = [each.probabilities for each in trainings if each.probabilities is not None]
    if len(known) == len(trainings):
        pairs = [(each, p) for each, p in zip(trainings, known, strict=True)]
        tables[LOSS] = np.array([_loss(p, each.actual) for each, p in pairs])
        tables[CALIBRATION] = np.array([_miscalibration(p, each.actual) for each, p in pairs])
    return tables


def _loss(probabilities: Floats, actual: npt.NDArray[np.int64]) -> Floats:
    return np.asarray(-np.log(np.maximum(probabilities[np.arange(len(actual)), actual], _LEAST)))


def _miscalibration(probabilities: Floats, actual: npt.NDArray[np.int64]) -> Floats:
    confidence = probabilities.max(axis=1)
    excess = confidence - (probabilities.argmax(axis=1) == actual)
    bins = metrics.calibration(probabilities, actual)
    last = len(bins.images) - 1
    place = np.clip(np.searchsorted(bins.edges, confidence, side="left") - 1, 0, last)
    return np.asarray(np.sign(np.bincount(place, excess, last + 1))[place] * excess)
