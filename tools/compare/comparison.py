"""What two sides say together: which is better, by how much, and whether that can be known."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from stages.lib import config
from tools.compare import pipeline, sides, statistics
from tools.compare.sides import Labels, Side, Unknown

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


@dataclass(frozen=True)
class Comparison:
    """All that follows from two sides.

    Attributes:
        verdict: On the accuracy on the test split.
        reason: Why the verdict is unknown; empty when it is not.
        comparable: Whether both sides were scored on the same test images.
        test: On all images, or why there is none.
        classes: By class, or why not.
        same_predictions: Whether every image is predicted the same; None when unknown.
        warnings: What a reader has to know beside the verdict.
        changed: Values before and after by key, by file, or why that is unknown.
        stages: What became of each, or why that is unknown.
    """

    before: Side
    after: Side
    verdict: Verdict
    reason: str
    comparable: bool
    test: Test | Unknown
    classes: list[ClassTest] | Unknown
    same_predictions: bool | None
    warnings: list[str]
    changed: dict[str, dict[str, tuple[object, object]] | Unknown]
    stages: list[pipeline.Change] | Unknown


ABSENT = object()  # the value of a key that one side does not have


def compare(before: Side, after: Side) -> Comparison:
    """Compares two sides."""
    other, note = _other_images(before, after)
    test = Unknown(other) if other else _test(before, after)
    reason = test.reason if isinstance(test, Unknown) else ""
    warnings = [*([note] if note else []), *_warnings(before), *_warnings(after)]
    if old := _outdated(after):
        if reason:
            warnings.append(f"The results of {after.name} are out of date: {old}.")
        reason = reason or f"the results of {after.name} are out of date, {old}"
    if old := _outdated(before):
        warnings.append(
            f"The results of {before.name} do not belong to its code and parameters: {old}."
        )
    verdict: Verdict = "unknown" if reason or isinstance(test, Unknown) else test.verdict
    return Comparison(
        before=before,
        after=after,
        verdict=verdict,
        reason=reason,
        comparable=not other,
        test=test,
        classes=test if isinstance(test, Unknown) else _classes(before.labels, after.labels),
        same_predictions=_same_predictions(before.labels, after.labels) if not other else None,
        warnings=warnings,
        changed={
            file: changed_values(before.settings[file], after.settings[file])
            for file in after.settings
        },
        stages=_stages(before, after),
    )


def paired(before: Labels, after: Labels, chosen: np.typing.NDArray[np.bool_]) -> Test:
    """McNemar's exact test on the images ``chosen`` (N, at least one of them true)."""
    was, now = before.right & chosen, after.right & chosen
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


def changed_values(
    before: dict[str, object] | Unknown, after: dict[str, object] | Unknown
) -> dict[str, tuple[object, object]] | Unknown:
    """The values that differ, by key, before and after; ABSENT where a side has none."""
    if isinstance(before, Unknown):
        return before
    if isinstance(after, Unknown):
        return after
    pairs = {key: (before.get(key, ABSENT), after.get(key, ABSENT)) for key in {**before, **after}}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _other_images(before: Side, after: Side) -> tuple[str, str]:
    """Why the sides cannot be compared, and what to note when they can; empty for nothing."""
    names = [_dataset(side) for side in (before, after)]
    if None not in names and names[0] != names[1]:
        return (
            f"the data set changed from {names[0]} to {names[1]}, and with it the test images",
            "",
        )
    same = _same_labels(before.labels, after.labels)
    if same is False:
        return "the test images changed: their labels are not the same on both sides", ""
    test = _same_hash(before, after, sides.TEST)
    if test:
        return "", ""
    if test is False:
        if same and _same_hash(before, after, sides.RAW):
            return "", "The test images are the same ones, but they were prepared in another way."
        return f"the test images changed: {sides.TEST} has other content", ""
    if same:
        return "", (
            "Whether the test images are the same ones is known from their labels alone: "
            f"dvc.lock does not name {sides.TEST} on both sides."
        )
    return "whether both sides were scored on the same test images is not known", ""


def _dataset(side: Side) -> object | None:
    params = side.settings[config.PARAMS]
    return None if isinstance(params, Unknown) else params.get("dataset")


def _same_hash(before: Side, after: Side, path: str) -> bool | None:
    """Whether an output is the same on both sides; None when unknown."""
    if isinstance(before.lock, Unknown) or isinstance(after.lock, Unknown):
        return None
    hashes = [pipeline.output(lock, path) for lock in (before.lock, after.lock)]
    return None if None in hashes else hashes[0] == hashes[1]


def _same_labels(before: Labels | Unknown, after: Labels | Unknown) -> bool | None:
    if isinstance(before, Unknown) or isinstance(after, Unknown):
        return None
    return np.array_equal(before.actual, after.actual)


def _same_predictions(before: Labels | Unknown, after: Labels | Unknown) -> bool | None:
    if isinstance(before, Unknown) or isinstance(after, Unknown):
        return None
    return np.array_equal(before.predicted, after.predicted)


def _test(before: Side, after: Side) -> Test | Unknown:
    """The paired test when both sides have predictions, else that of the totals."""
    if not isinstance(before.labels, Unknown) and not isinstance(after.labels, Unknown):
        return paired(before.labels, after.labels, np.ones(len(after.labels.actual), np.bool_))
    totals = []
    for side in (before, after):
        found = _totals(side)
        if isinstance(found, Unknown):
            return found
        totals.append(found)
    why = "; ".join(
        f"predictions of {side.name}: {side.labels.reason}"
        for side in (before, after)
        if isinstance(side.labels, Unknown)
    )
    return unpaired((totals[0][0], totals[1][0]), (totals[0][1], totals[1][1]), why)


def _totals(side: Side) -> tuple[int, int] | Unknown:
    """How many test images are right, and of how many."""
    if isinstance(side.metrics, Unknown):
        return Unknown(f"the metrics of {side.name} are not known: {side.metrics.reason}")
    accuracy, images = side.metrics.get("accuracy"), side.metrics.get("images")
    if accuracy is None or not images or not 0 <= accuracy <= 1:
        return Unknown(f"{sides.METRICS} of {side.name} lacks the accuracy or the number of images")
    return round(accuracy * images), round(images)


def _classes(before: Labels | Unknown, after: Labels | Unknown) -> list[ClassTest] | Unknown:
    if isinstance(before, Unknown):
        return before
    if isinstance(after, Unknown):
        return after
    present = np.unique(after.actual).tolist()
    tests = [paired(before, after, after.actual == label) for label in present]
    corrected = statistics.holm([test.p_value for test in tests])
    return [ClassTest(*row) for row in zip(present, tests, corrected, strict=True)]


def _outdated(side: Side) -> str:
    """The stages before plot whose results are out of date, in words; plot makes no numbers."""
    if isinstance(side.pending, Unknown):
        return ""
    names = [name for name in side.pending if name != "plot"]
    return f"dvc repro would run {', '.join(names)}" if names else ""


def _warnings(side: Side) -> list[str]:
    found = []
    if isinstance(side.pending, Unknown):
        found.append(
            f"Whether the results of {side.name} are up to date is not known: "
            f"{side.pending.reason}."
        )
    if not isinstance(side.labels, Unknown) and not isinstance(side.metrics, Unknown):
        counted, stated = float(side.labels.right.mean()), side.metrics.get("accuracy")
        if stated is not None and abs(counted - stated) > 1e-5:
            found.append(
                f"The results of {side.name} contradict each other: {stated:.4%} are right by "
                f"{sides.METRICS}, {counted:.4%} by {sides.PREDICTIONS}; the latter was tested."
            )
    return found


def _stages(before: Side, after: Side) -> list[pipeline.Change] | Unknown:
    if isinstance(before.lock, Unknown):
        return Unknown(f"{before.name}: {before.lock.reason}")
    if isinstance(after.lock, Unknown):
        return Unknown(f"{after.name}: {after.lock.reason}")
    pending = {} if isinstance(after.pending, Unknown) else after.pending
    return pipeline.changes(before.lock, after.lock, pending)
