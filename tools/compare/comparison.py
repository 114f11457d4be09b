"""What two sides say together: which is better, by how much, and whether that can be known."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.lib.core import config
from stages.lib.metrics import confusion_matrix
from stages.lib.wording import percent
from tools.compare import dvc_state, evidence, scores, sides
from tools.compare.accuracy import ClassTest, Test, by_class, paired, unpaired
from tools.compare.evidence import Evidence, Verdict
from tools.compare.sides import Labels, Side, Unknown


@dataclass(frozen=True)
class Comparison:
    """All that follows from two sides.

    Attributes:
        verdict: On the accuracy on the test split.
        reason: Why the verdict is unknown; empty when it is not.
        comparable: Whether both sides were scored on the same test images.
        test: On all images, of each side's own training, or why there is none.
        evidence: By metric, on all trainings of both sides; none without predictions of both.
        outdated: The stages whose results are out of date after, in words; empty when none is.
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
    evidence: dict[str, Evidence]
    outdated: str
    classes: list[ClassTest] | Unknown
    same_predictions: bool | None
    warnings: list[str]
    changed: dict[str, dict[str, tuple[object, object]] | Unknown]
    stages: list[dvc_state.Change] | Unknown


_LONGEST = 60  # letters of a class name that are shown
ABSENT = object()  # the value of a key that one side does not have


def compare(before: Side, after: Side) -> Comparison:
    """Compares two sides."""
    other, note = _other_images(before, after)
    test = Unknown(other) if other else _test(before, after)
    weighed = {} if other else _evidence(before, after)
    reason = test.reason if isinstance(test, Unknown) else ""
    warnings = [*([note] if note else []), *_warnings(before), *_warnings(after)]
    if old := _outdated(after):
        if reason:
            warnings.append(f"The results of {after.name} are out of date: {old}.")
        reason = reason or f"the results of {after.name} are out of date, {old}"
    if outdated := _outdated(before):
        warnings.append(
            f"The results of {before.name} do not belong to its code and parameters: {outdated}."
        )
    same = _same_predictions(before, after) if not other else None
    verdict: Verdict = "unknown"
    if not reason and not isinstance(test, Unknown):
        verdict, reason = _verdict(test, weighed.get(scores.ACCURACY))
    return Comparison(
        before=before,
        after=after,
        verdict=verdict,
        reason=reason,
        comparable=not other,
        test=test,
        evidence=weighed,
        outdated=old,
        classes=_classes(before, after, test),
        same_predictions=same,
        warnings=warnings,
        changed={
            file: changed_values(before.settings[file], after.settings[file])
            for file in after.settings
        },
        stages=_stages(before, after),
    )


MORE = "python -m tools.seeds 3"  # what makes a verdict possible


def _verdict(test: Test, weighed: Evidence | None) -> tuple[Verdict, str]:
    """The word that the tests of the accuracy earn, and why there is none."""
    if weighed is not None and weighed.both_chances:
        return weighed.verdict(), ""
    if not test.beyond_images:
        return "no difference", ""
    before, after = (percent(accuracy) for accuracy in test.accuracies)
    return "unknown", (
        f"test accuracy {before} → {after} is more than the choice of test images explains; "
        "whether a second training would agree is not known"
    )


def _evidence(before: Side, after: Side) -> dict[str, Evidence]:
    """By metric, the test of all trainings of both sides."""
    if not before.trainings or not after.trainings:
        return {}
    tables = [scores.by_metric(list(side.trainings.values())) for side in (before, after)]
    return {
        name: evidence.weigh(tables[0][name], tables[1][name], name == scores.ACCURACY)
        for name in tables[1]
        if name in tables[0]
    }


def _classes(before: Side, after: Side, test: Test | Unknown) -> list[ClassTest] | Unknown:
    for part in (test, before.labels, after.labels):
        if isinstance(part, Unknown):
            return part
    return by_class(list(before.trainings.values()), list(after.trainings.values()))


def class_name(of: Comparison, label: int) -> str:
    """The name of a class, or its number where the catalogue has none."""
    return full_name(of, label)[:_LONGEST]


def full_name(of: Comparison, label: int) -> str:
    """The same, however long it is."""
    names = of.after.class_names or of.before.class_names
    return (names[label].strip() if label < len(names) else "") or f"class {label}"


def matrices(of: Comparison) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None:
    """The confusion matrices before and after, K x K, when both are known and comparable."""
    before, after = of.before.labels, of.after.labels
    if isinstance(before, Unknown) or isinstance(after, Unknown) or not of.comparable:
        return None
    count = max(before.num_classes, after.num_classes)
    return (
        confusion_matrix(before.actual, before.predicted, count),
        confusion_matrix(after.actual, after.predicted, count),
    )


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
        if _same_hash(before, after, sides.RAW) and _chosen_alike(before, after):
            if same is None:
                return (
                    "whether the test images are the same ones, prepared in another way, is not "
                    f"known without the predictions of both sides; {MORE} {before.name} makes "
                    "them again"
                ), ""
            return "", (
                "The test images are the same ones, but they were prepared in another way, or "
                "their classes have other names."
            )
        return f"the test images changed: {sides.TEST} has other content", ""
    if same:
        return "", (
            "Whether the test images are the same ones is known from their labels alone: "
            f"dvc.lock does not name {sides.TEST} on both sides."
        )
    return "whether both sides were scored on the same test images is not known", ""


_CHOICE = ("normalize.seed", "normalize.test_fraction", "normalize.unreadable")


def _chosen_alike(before: Side, after: Side) -> bool:
    """Whether the parameters that choose which image files are test images are the same."""
    settings = [side.settings[config.PARAMS] for side in (before, after)]
    if any(isinstance(each, Unknown) for each in settings):
        return False
    first, second = ([each.get(key) for key in _CHOICE] for each in settings)  # type: ignore[union-attr]
    return first == second


def _dataset(side: Side) -> object | None:
    params = side.settings[config.PARAMS]
    return None if isinstance(params, Unknown) else params.get("dataset")


def _same_hash(before: Side, after: Side, path: str) -> bool | None:
    """Whether an output is the same on both sides; None when unknown."""
    if isinstance(before.lock, Unknown) or isinstance(after.lock, Unknown):
        return None
    hashes = [dvc_state.output(lock, path) for lock in (before.lock, after.lock)]
    return None if None in hashes else hashes[0] == hashes[1]


def _same_labels(before: Labels | Unknown, after: Labels | Unknown) -> bool | None:
    if isinstance(before, Unknown) or isinstance(after, Unknown):
        return None
    return np.array_equal(before.actual, after.actual)


def _same_predictions(before: Side, after: Side) -> bool | None:
    """Whether every training predicts as before: those of equal seed, or the only ones."""
    if isinstance(before.labels, Unknown) or isinstance(after.labels, Unknown):
        return None
    if not np.array_equal(before.labels.predicted, after.labels.predicted):
        return False
    shared = before.trainings.keys() & after.trainings.keys()
    alone = max(len(before.trainings), len(after.trainings)) == 1
    return (alone or bool(shared)) and all(
        np.array_equal(before.trainings[seed].predicted, after.trainings[seed].predicted)
        for seed in shared
    )


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
    if isinstance(before.labels, Unknown):
        why += f"; {MORE} {before.name} makes them again"
    return unpaired((totals[0][0], totals[1][0]), (totals[0][1], totals[1][1]), why)


def _totals(side: Side) -> tuple[int, int] | Unknown:
    """How many test images are classified correctly, and of how many."""
    if isinstance(side.metrics, Unknown):
        return Unknown(f"the metrics of {side.name} are not known: {side.metrics.reason}")
    accuracy, images = side.metrics.get("accuracy"), side.metrics.get("images")
    if accuracy is None or not images or not 0 <= accuracy <= 1:
        return Unknown(f"{sides.METRICS} of {side.name} lacks the accuracy or the number of images")
    return round(accuracy * images), round(images)


def _outdated(side: Side) -> str:
    """The stages behind the predictions whose results are out of date, in words.

    Those that dvc.lock knows: a new one makes a stage that reads of it out of date as well.
    """
    if isinstance(side.pending, Unknown):
        return ""
    lock = {} if isinstance(side.lock, Unknown) else side.lock
    behind = dvc_state.behind(lock, sides.PREDICTIONS)
    names = [name for name in side.pending if (name in behind if behind else name != "plot")]
    frozen = [name for name in names if dvc_state.FROZEN in side.pending[name]]
    run = [name for name in names if name not in frozen]
    parts = [f"dvc repro would run {', '.join(run)}"] if run else []
    parts += [f"{name} is frozen and would run otherwise" for name in frozen]
    return "; ".join(parts)


def _warnings(side: Side) -> list[str]:
    found = []
    if side.lost:
        seeds = ", ".join(map(str, side.lost))
        found.append(
            f"Trainings of {side.name} with seed {seeds} are left out: DVC's cache has no usable "
            "predictions of theirs."
        )
    if side.again:
        found.append(
            f"The predictions of {side.name} are those of its training made again here: neither "
            "DVC's cache nor a remote has those that dvc.lock recorded."
        )
    if isinstance(side.pending, Unknown):
        found.append(
            f"Whether the results of {side.name} are up to date is not known: "
            f"{side.pending.reason}."
        )
    if not isinstance(side.labels, Unknown) and not isinstance(side.metrics, Unknown):
        counted, stated = float(side.labels.correct.mean()), side.metrics.get("accuracy")
        if stated is not None and abs(counted - stated) > 1e-5 and not side.again:
            found.append(
                f"The results of {side.name} contradict each other: {stated:.4%} are correct by "
                f"{sides.METRICS}, {counted:.4%} by {sides.PREDICTIONS}; the latter was tested."
            )
    return found


def _stages(before: Side, after: Side) -> list[dvc_state.Change] | Unknown:
    if isinstance(before.lock, Unknown):
        return Unknown(f"{before.name}: {before.lock.reason}")
    if isinstance(after.lock, Unknown):
        return Unknown(f"{after.name}: {after.lock.reason}")
    pending = {} if isinstance(after.pending, Unknown) else after.pending
    return dvc_state.changes(before.lock, after.lock, pending)
