"""Measures of a classifier, from labels and probabilities.

Shapes: N images, K classes, B bins. Labels are integers from 0 to K - 1.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def log_softmax(logits: npt.NDArray[np.floating]) -> Floats:
    """The logarithms of the probabilities that logits (N x K) stand for."""
    shifted: Floats = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    normalizer: Floats = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted - normalizer


def cross_entropy(log_probabilities: Floats, labels: Labels) -> float:
    """The mean loss in nats of log probabilities (N x K)."""
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def top_k_accuracy(probabilities: Floats, labels: Labels, k: int) -> float:
    """The share of images whose label is among the k most probable classes.

    Classes of equal probability rank by their number.
    """
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float((ranked == labels[:, None]).any(axis=1).mean())


def wilson_interval(
    successes: int, trials: int, z: float = 1.959963984540054
) -> tuple[float, float]:
    """The Wilson score interval of a share, at 95 % by default.

    Source: Wilson, E. B. (1927). Probable inference, the law of succession, and statistical
    inference. Journal of the American Statistical Association, 22(158), 209-212.
    """
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def confusion_matrix(labels: Labels, predicted: Labels, num_classes: int) -> npt.NDArray[np.int64]:
    """K x K counts: actual class by row, predicted class by column."""
    cells = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes).astype(np.int64)


@dataclass(frozen=True)
class PerClass:
    """K values each; where a value has no denominator it is 0."""

    precision: Floats
    recall: Floats
    f1: Floats
    support: npt.NDArray[np.int64]


def per_class(confusion: npt.NDArray[np.int64]) -> PerClass:
    """Precision, recall, F1 and number of images of every class of a confusion matrix."""
    right = np.diag(confusion).astype(np.float64)
    predicted, actual = confusion.sum(axis=0), confusion.sum(axis=1)
    return PerClass(
        precision=right / np.maximum(predicted, 1),
        recall=right / np.maximum(actual, 1),
        f1=2 * right / np.maximum(predicted + actual, 1),
        support=actual,
    )


def macro_f1(classes: PerClass) -> float:
    """The mean F1 of the classes that the labels or the predictions hold."""
    present = (classes.support > 0) | (classes.precision > 0)
    return float(classes.f1[present].mean())


@dataclass(frozen=True)
class Calibration:
    """Reliability by bin of confidence; B values each, edges B + 1.

    Attributes:
        edges: The limits of the bins, from 0 to 1.
        images: How many images have a confidence in the bin: above its lower edge, up to its upper.
        confidence: Their mean confidence; NaN in an empty bin.
        accuracy: The share of them that is right; NaN in an empty bin.
    """

    edges: Floats
    images: npt.NDArray[np.int64]
    confidence: Floats
    accuracy: Floats


def calibration(probabilities: Floats, labels: Labels, bins: int = 15) -> Calibration:
    """Confidence against accuracy in bins of equal width.

    Source: Guo, C., Pleiss, G., Sun, Y. and Weinberger, K. Q. (2017). On Calibration of Modern
    Neural Networks. ICML.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    images = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Calibration(
            edges=edges,
            images=images.astype(np.int64),
            confidence=np.bincount(place, confidence, bins) / images,
            accuracy=np.bincount(place, right, bins) / images,
        )


def expected_calibration_error(found: Calibration) -> float:
    """The mean distance of confidence and accuracy, bins weighted by their images."""
    filled = found.images > 0
    distance = np.abs(found.confidence - found.accuracy)[filled]
    return float((distance * found.images[filled]).sum() / found.images.sum())
