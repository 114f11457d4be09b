"""Tests of a difference of accuracies of one training a side, and by class of all trainings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tools.compare import evidence, scores, statistics
from tools.compare.evidence import Evidence, Verdict
from tools.compare.sides import Labels


@dataclass(frozen=True)
class Test:
    """The test of a difference of accuracies.

    Attributes:
        images: Test images before and after.
        correct: Images classified correctly before and after.
        low: Lower limit of the 95 % interval of the difference, after minus before, -1 to 1.
        high: Its upper limit.
        p_value: Of the test, 0 to 1.
        fixed: Indices of the images that only the later model classifies correctly; None when the
            predictions of a side are unknown and the totals alone were tested.
        broken: Indices of the images that only the earlier one does, or None.
        why_unpaired: Why the totals alone were tested; empty when the images were paired.
    """

    images: tuple[int, int]
    correct: tuple[int, int]
    low: float
    high: float
    p_value: float
    fixed: list[int] | None
    broken: list[int] | None
    why_unpaired: str = ""

    @property
    def accuracies(self) -> tuple[float, float]:
        """Accuracy before and after, 0 to 1."""
        return self.correct[0] / self.images[0], self.correct[1] / self.images[1]

    @property
    def difference(self) -> float:
        """Accuracy after minus before, -1 to 1."""
        before, after = self.accuracies
        return after - before

    @property
    def beyond_images(self) -> bool:
        """Whether the choice of test images does not explain the difference, at 5 %."""
        return self.p_value < statistics.LEVEL


@dataclass(frozen=True)
class ClassTest:
    """The test of one class.

    Attributes:
        label: The class.
        test: On the images of that class, of each side's own training.
        evidence: On the same images, of all trainings.
        p_value: With one training a side that of ``test``, else that of ``evidence``.
        corrected: The same by Holm's method over all classes.
    """

    label: int
    test: Test
    evidence: Evidence
    p_value: float
    corrected: float

    @property
    def verdict(self) -> Verdict:
        """What the corrected test earns, at 5 %."""
        return self.evidence.verdict(self.corrected)


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
        correct=(int(was.sum()), int(now.sum())),
        low=low,
        high=high,
        p_value=statistics.mcnemar_exact(len(fixed), len(broken)),
        fixed=fixed,
        broken=broken,
    )


def unpaired(correct: tuple[int, int], images: tuple[int, int], why: str) -> Test:
    """Fisher's exact test on the totals of both sides."""
    totals = (correct[0], images[0], correct[1], images[1])
    low, high = statistics.independent_interval(*totals)
    return Test(images, correct, low, high, statistics.fisher_exact(*totals), None, None, why)


def by_class(before: Sequence[Labels], after: Sequence[Labels]) -> list[ClassTest]:
    """The tests of all classes that have images.

    Args:
        before: The trainings of one side, its own first, at least one.
        after: The same of the later side, on the same images.
    """
    tables = scores.correct(before), scores.correct(after)
    actual = after[0].actual
    present = np.unique(actual).tolist()
    tests = [paired(before[0], after[0], actual == label) for label in present]
    weighed = [
        evidence.weigh(tables[0][:, actual == label], tables[1][:, actual == label])
        for label in present
    ]
    p_values = [
        found.p_value if found.both_chances else test.p_value
        for test, found in zip(tests, weighed, strict=True)
    ]
    corrected = statistics.holm(p_values)
    return [
        ClassTest(*row) for row in zip(present, tests, weighed, p_values, corrected, strict=True)
    ]
