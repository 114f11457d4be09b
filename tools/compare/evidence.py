"""The test of a difference of means over trainings and test images, with both chances in it.

Each training of a side scores the same N test images: a table of S trainings by N images. A cell
holds the side's mean, the training's own level, the image's own level, and what is left. The
difference of the two means varies because other trainings, and because other test images, might
have been drawn. Its variance is estimated from the mean squares of the crossed tables:

    V = sum over sides of max(T, R) / S  +  max(0, D - sum over sides of R / S)

T is the variance of the trainings' means; R = (mean square of what is left) / N, the part of T
that single images make; D is the variance over the images of the paired difference of the two
sides' image means, divided by N, which holds R once more. The two maxima take a variance
component that is estimated below 0 as 0, as a mixed model does.
Where the sides have unequal numbers of trainings, the few of one may agree by chance: then there is
a second test, whose first sum takes the trainings of both sides to vary alike, and of the two the
one with the wider interval counts.
The interval is Student's t with Satterthwaite's degrees of freedom, as Hillis proposed them for
radiology, where several readers judge the same cases: the maximum stands in the numerator, mean
squares alone in the denominator. His readers judge both tests; a training belongs to one side, so
that each side has a mean square of its own, and the images' is counted as well.

Sources: Hillis, S. L. (2007). A comparison of denominator degrees of freedom methods for multiple
observer ROC analysis. Statistics in Medicine, 26(3), 596-619. Satterthwaite, F. E. (1946). An
approximate distribution of estimates of variance components. Biometrics Bulletin, 2(6), 110-114.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tools.compare import statistics

Floats = npt.NDArray[np.float64]
Verdict = Literal["better", "worse", "no difference", "unknown"]


@dataclass(frozen=True)
class Evidence:
    """A difference of two means, after minus before, and what chance allows.

    Attributes:
        means: Before and after.
        trainings: How many before and after.
        low: Lower limit of the 95 % interval of the difference.
        high: Its upper limit.
        degrees: Of freedom, of Student's t.
        p_value: Two-sided, 0 to 1.
        higher_is_better: Which way is better.
        both_chances: Whether the trainings' chance is known of both sides, of two or more each.
    """

    means: tuple[float, float]
    trainings: tuple[int, int]
    low: float
    high: float
    degrees: float
    p_value: float
    higher_is_better: bool
    both_chances: bool

    @property
    def difference(self) -> float:
        """After minus before."""
        return self.means[1] - self.means[0]

    def verdict(self, p_value: float | None = None) -> Verdict:
        """The word that the test earns at 5 %.

        Args:
            p_value: To judge by, such as one corrected for many tests; the test's own if None.
        """
        if (self.p_value if p_value is None else p_value) >= statistics.LEVEL:
            return "no difference"
        if not self.both_chances:
            return "unknown"
        return "better" if (self.difference > 0) == self.higher_is_better else "worse"


def weigh(before: Floats, after: Floats, higher_is_better: bool = True) -> Evidence:
    """The test of the mean of ``after`` against that of ``before``.

    With one training on both sides only the images' chance can be known. With one on one side the
    spread of the other's trainings is taken for both, which is no more than a guess.

    Args:
        before: A score of every test image, trainings x images.
        after: The same of the later side: trainings of its own, the same images.
        higher_is_better: Which way is better.
    """
    images = before.shape[1]
    paired = after.mean(axis=0) - before.mean(axis=0)
    by_images = float(paired.var(ddof=1)) / images if images > 1 else math.inf
    sides = [_Spread.of(table) if len(table) > 1 else None for table in (before, after)]
    known = [side for side in sides if side]
    counts = (len(before), len(after))
    spreads = [side or known[0] for side in sides] if known else []
    of_cells = sum(s.by_images / count for s, count in zip(spreads, counts, strict=False))
    difference, of_images = float(paired.mean()), [(by_images, images - 1)] if images > 1 else []
    tests = []
    for first in _first_sums(known, counts):
        variance = first.value + max(0.0, by_images - of_cells)
        squares = sum(part**2 / degrees for part, degrees in [*first.parts, *of_images])
        degrees = variance**2 / squares if squares and variance else math.inf
        half = statistics.t_quantile(1 - statistics.LEVEL / 2, degrees) * math.sqrt(variance)
        tests.append((half, math.sqrt(variance), degrees))
    half, error, degrees = max(tests)
    ratio = abs(difference) / error if error else (math.inf if difference else 0.0)
    p_value = 2 * statistics.t_tail(ratio, degrees)
    if images < 2:
        half, p_value = math.inf, 1.0
    return Evidence(
        means=(float(before.mean()), float(after.mean())),
        trainings=(len(before), len(after)),
        low=difference - half,
        high=difference + half,
        degrees=degrees,
        p_value=min(1.0, p_value),
        higher_is_better=higher_is_better,
        both_chances=len(known) == 2,
    )


@dataclass(frozen=True)
class _Sum:
    """The trainings' part of the variance, and the mean squares in it with their degrees."""

    value: float
    parts: list[tuple[float, int]]


def _first_sums(known: Sequence["_Spread"], counts: tuple[int, int]) -> list[_Sum]:
    """The ways to estimate what the trainings make: each side's own, both alike, or neither."""
    if not known:
        return [_Sum(0.0, [])]
    freedom = sum(side.trainings - 1 for side in known)
    mean = sum(side.total * (side.trainings - 1) for side in known) / freedom
    pooled = mean * sum(1 / count for count in counts)
    alike = _Sum(pooled, [(pooled, freedom)])
    if len(known) == 1:
        return [alike]
    parts = [(side.total / side.trainings, side.trainings - 1) for side in known]
    own = _Sum(sum(part for part, _ in parts), parts)
    return [own] if counts[0] == counts[1] else [own, alike]


@dataclass(frozen=True)
class _Spread:
    """The variance of the means of one side's trainings, at least what single images make."""

    trainings: int
    own: float
    by_images: float

    @staticmethod
    def of(table: Floats) -> "_Spread":
        trainings, images = table.shape
        means = table.mean(axis=1)
        left = table - means[:, None] - table.mean(axis=0) + table.mean()
        freedom = (trainings - 1) * max(1, images - 1)
        return _Spread(
            trainings, float(means.var(ddof=1)), float((left**2).sum()) / freedom / images
        )

    @property
    def total(self) -> float:
        return max(self.own, self.by_images)

    @property
    def beyond_images(self) -> float:
        return self.total - self.by_images


def mean_interval(table: Floats) -> tuple[float, float]:
    """The 95 % interval of one side's accuracy, over trainings and test images, within 0 to 1.

    Args:
        table: 1 where a training classifies an image correctly, else 0, trainings x images.
    """
    trainings, images = table.shape
    if images < 2:  # one tells nothing of others
        return 0.0, 1.0
    by_images = float(table.mean(axis=0).var(ddof=1)) / images
    parts, variance = [(by_images, images - 1)], by_images
    if trainings > 1:
        spread = _Spread.of(table)
        variance += spread.beyond_images / trainings
        parts.append((spread.total / trainings, trainings - 1))
    squares = sum(part**2 / degrees for part, degrees in parts)
    degrees = variance**2 / squares if squares else math.inf
    half = statistics.t_quantile(1 - statistics.LEVEL / 2, degrees) * math.sqrt(variance)
    return max(0.0, float(table.mean()) - half), min(1.0, float(table.mean()) + half)
