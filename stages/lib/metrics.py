"""Metrics of a classifier, from labels and probabilities; ``METRICS`` is the table of them.

Shapes: N images, K classes, B bins. Labels are integers from 0 to K - 1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

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
    mean = log_probabilities[np.arange(len(labels)), labels].mean()
    return float(0.0 - mean)  # and not -0.0 of a model that is surely right


def top_k_accuracy(probabilities: Floats, labels: Labels, k: int) -> float:
    """The fraction of images whose label is among the k most probable classes.

    Classes of equal probability rank by their number.
    """
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float((ranked == labels[:, None]).any(axis=1).mean())


def wilson_interval(
    successes: int, trials: int, z: float = 1.959963984540054
) -> tuple[float, float]:
    """The Wilson score interval of a proportion, at 95 % by default.

    Source: Wilson, E. B. (1927). Probable inference, the law of succession, and statistical
    inference. Journal of the American Statistical Association, 22(158), 209-212.
    """
    proportion = successes / trials
    centre = proportion + z * z / (2 * trials)
    variance = proportion * (1 - proportion) / trials
    spread = z * math.sqrt(variance + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def confusion_matrix(labels: Labels, predicted: Labels, num_classes: int) -> npt.NDArray[np.int64]:
    """K x K counts: actual class by row, predicted class by column."""
    cells = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes).astype(np.int64)


@dataclass(frozen=True)
class PerClass:
    """K values each; NaN where a value has no denominator.

    That is the precision of a class that is never predicted, the recall of one without images, and
    the F1 of one that is both.
    """

    precision: Floats
    recall: Floats
    f1: Floats
    support: npt.NDArray[np.int64]


def per_class(confusion: npt.NDArray[np.int64]) -> PerClass:
    """Precision, recall, F1 and number of images of every class of a confusion matrix."""
    return per_class_of_counts(np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1))


def per_class_of_counts(correct: Labels, predicted: Labels, actual: Labels) -> PerClass:
    """The same from K numbers each of images: correct of a class, all predicted, all of it."""
    with np.errstate(invalid="ignore"):
        return PerClass(
            precision=correct / predicted,
            recall=correct / actual,
            f1=2 * correct / (predicted + actual),
            support=actual,
        )


def margins(probabilities: Floats, labels: Labels) -> tuple[Floats, Labels]:
    """How much more probable each label is than any other class, -1 to 1, and which that one is.

    The lower, the more the model contradicts the label. Source: Northcutt, C. G., Athalye, A. and
    Mueller, J. (2021). Pervasive Label Errors in Test Sets Destabilize Machine Learning
    Benchmarks. NeurIPS.

    Args:
        probabilities: N x K.
        labels: N.

    Returns:
        N margins, and N labels of the most probable other class, the first one of equals.
    """
    rows = np.arange(len(labels))
    others = probabilities.copy()
    others[rows, labels] = -1
    likeliest: Labels = others.argmax(axis=1)
    return probabilities[rows, labels] - probabilities[rows, likeliest], likeliest


def macro_f1(confusion: npt.NDArray[np.int64]) -> float:
    """The mean F1 of the classes that the labels or the predictions of a confusion matrix hold."""
    return float(np.nanmean(per_class(confusion).f1))


@dataclass(frozen=True)
class Calibration:
    """Reliability by bin of confidence; B values each, edges B + 1.

    Attributes:
        edges: The limits of the bins, from 0 to 1.
        images: How many images have a confidence in the bin: above its lower edge, up to its upper.
        confidence: Their mean confidence; NaN in an empty bin.
        accuracy: The fraction of them that is correct; NaN in an empty bin.
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
    correct = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    images = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Calibration(
            edges=edges,
            images=images.astype(np.int64),
            confidence=np.bincount(place, confidence, bins) / images,
            accuracy=np.bincount(place, correct, bins) / images,
        )


def expected_calibration_error(bins: Calibration) -> float:
    """The mean distance of confidence and accuracy, bins weighted by their images."""
    filled = bins.images > 0
    distance = np.abs(bins.confidence - bins.accuracy)[filled]
    return float((distance * bins.images[filled]).sum() / bins.images.sum())


@dataclass(frozen=True)
class Outcome:
    """What a model says of the images of a split, and what follows from it.

    Attributes:
        log_probabilities: N x K.
        labels: N.
    """

    log_probabilities: Floats
    labels: Labels

    @cached_property
    def probabilities(self) -> Floats:
        """N x K, 0 to 1."""
        return np.exp(self.log_probabilities)

    @cached_property
    def predicted(self) -> Labels:
        """N: the most probable class, the first one of equals."""
        predicted: Labels = self.probabilities.argmax(axis=1)
        return predicted

    @cached_property
    def confusion(self) -> npt.NDArray[np.int64]:
        """K x K, as ``confusion_matrix``."""
        return confusion_matrix(self.labels, self.predicted, self.log_probabilities.shape[1])

    @cached_property
    def calibration(self) -> Calibration:
        """The reliability by bin of confidence."""
        return calibration(self.probabilities, self.labels)

    @property
    def accuracy(self) -> float:
        """The fraction of images that is classified correctly."""
        return self.correct / len(self.labels)

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """The limits of the accuracy's 95 % interval."""
        return wilson_interval(self.correct, len(self.labels))

    @cached_property
    def correct(self) -> int:
        """The number of images that are classified correctly."""
        return int((self.predicted == self.labels).sum())


@dataclass(frozen=True)
class Metric:
    """A number about a model.

    Attributes:
        name: Its key in reports/evaluate/metrics.json.
        label: What people read, with a capital letter.
        unit: What it counts in; a proportion is from 0 to 1 and is shown in per cent.
        better: Which way it is better; empty where neither is.
        compute: The function that gives it.
    """

    name: str
    label: str
    unit: Literal["nats", "proportion", "images", ""]
    better: Literal["higher", "lower", ""]
    compute: Callable[[Outcome], float]


# A metric is one entry here: evaluate writes it, the report page and the comparison show it.
METRICS = (
    Metric(
        name="loss",
        label="Loss",
        unit="nats",
        better="lower",
        compute=lambda outcome: cross_entropy(outcome.log_probabilities, outcome.labels),
    ),
    Metric(
        name="accuracy",
        label="Accuracy",
        unit="proportion",
        better="higher",
        compute=lambda outcome: outcome.accuracy,
    ),
    Metric(
        name="accuracy_low",
        label="Accuracy: lower limit of the 95 % interval",
        unit="proportion",
        better="higher",
        compute=lambda outcome: outcome.accuracy_interval[0],
    ),
    Metric(
        name="accuracy_high",
        label="Accuracy: upper limit of the 95 % interval",
        unit="proportion",
        better="higher",
        compute=lambda outcome: outcome.accuracy_interval[1],
    ),
    Metric(
        name="macro_f1",
        label="Macro F1",
        unit="proportion",
        better="higher",
        compute=lambda outcome: macro_f1(outcome.confusion),
    ),
    Metric(
        name="expected_calibration_error",
        label="Expected calibration error",
        unit="proportion",
        better="lower",
        compute=lambda outcome: expected_calibration_error(outcome.calibration),
    ),
    Metric(
        name="top2_accuracy",
        label="Top-2 accuracy",
        unit="proportion",
        better="higher",
        compute=lambda outcome: top_k_accuracy(outcome.probabilities, outcome.labels, 2),
    ),
    Metric(
        name="images",
        label="Test images",
        unit="images",
        better="",
        compute=lambda outcome: len(outcome.labels),
    ),
)
