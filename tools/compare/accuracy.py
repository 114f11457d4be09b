"""Tests of a difference of accuracies: on paired images, by class, or on totals alone."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tools.compare import statistics
from tools.compare.sides import Labels, Unknown

Verdict = Literal["better", "worse", "no difference", "unknown"]


@dataclass(frozen=True)
class Test:
    """The test of a difference of accuracies.

    Attributes:
        images: Test images before and after.
        right: Images classified right before and after.
        low: Lower limit of the 95 % interval of the difference, after minus before, -1 to 1.
        high: Its upper limit.
        p_value: Of the test, 0 to 1.
        fixed: Indices of the images that only the later model has right; None when the
            predictions of a side are unknown and the totals alone were tested.
        broken: Indices of the images that only the earlier model has right, or None.
        why_unpaired: Why the totals alone were tested; empty when the images were paired.
    """

    images: tuple[int, int]
    right: tuple[int, int]
    low: float
    high: float
    p_value: float
    fixed: list[int] | None
    broken: list[int] | None
    why_unpaired: str = ""

    @property
    def shares(self) -> tuple[float, float]:
        """Accuracy before and after, 0 to 1."""
        return self.right[0] / self.images[0], self.right[1] / self.images[1]

    @property
    def difference(self) -> float:
        """Accuracy after minus before, -1 to 1."""
        before, after = self.shares
        return after - before

    @property
    def verdict(self) -> Verdict:
        """What the test says, at 5 %."""
        if self.p_value >= statistics.LEVEL:
            return "no difference"
        return "better" if self.difference > 0 else "worse"


@dataclass(frozen=True)
class ClassTest:
    """The test of one class.

    Attributes:
        label: The class.
        test: On the images of that class.
        corrected: Its p-value by Holm's method over all classes.
    """

    label: int
    test: Test
    corrected: float

    @property
    def verdict(self) -> Verdict:
        """What the corrected test says, at 5 %."""
        if self.corrected >= statistics.LEVEL:
            return "no difference"
        return "better" if self.test.difference > 0 else "worse"


def paired(before: Labels, after: Labels, chosen: npt.NDArray[np.bool_]) -> Test:
    """McNemar's exact test on the images ``chosen`` (N, at least one of them true)."""
    was, now = before.correct & chosen, after.correct & chosen
    fixed, broken = np.flatnonzero(now & ~was).tolist(), np.flatnonzero(was & ~now).tolist()
    both, images = int((was & now).sum()), int(chosen.sum())
    low, high = statistics.paired_interval(
        both, len(fixed), len(broken), images - both - len(fixed) - len(broken)
    )
    return Test(
        images=(images, images),
        right=(int(was.sum()), int(now.sum())),
        low=low,
        high=high,
        p_value=statistics.mcnemar_exact(len(fixed), len(broken)),
        fixed=fixed,
        broken=broken,
    )


def unpaired(right: tuple[int, int], images: tuple[int, int], why: str) -> Test:
    """Fisher's exact test on the totals of both sides."""
    totals = (right[0], images[0], right[1], images[1])
    low, high = statistics.independent_interval(*totals)
    return Test(images, right, low, high, statistics.fisher_exact(*totals), None, None, why)


def by_class(before: Labels | Unknown, after: Labels | Unknown) -> list[ClassTest] | Unknown:
    """The paired tests of all classes that have images, or why there are none."""
    if isinstance(before, Unknown):
        return before
    if isinstance(after, Unknown):
        return after
    present = np.unique(after.actual).tolist()
    tests = [paired(before, after, after.actual == label) for label in present]
    corrected = statistics.holm([test.p_value for test in tests])
    return [ClassTest(*row) for row in zip(present, tests, corrected, strict=True)]
