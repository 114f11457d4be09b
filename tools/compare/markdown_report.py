"""The report of a comparison, in Markdown: one sentence first, then numbers, then details."""

from collections.abc import Iterable, Sequence

from stages.lib.wording import percent
from tools.compare import markdown, scores, sections, statistics
from tools.compare.accuracy import Test
from tools.compare.comparison import MORE, Comparison
from tools.compare.declared import Declared
from tools.compare.evidence import Evidence
from tools.compare.gate import Check
from tools.compare.revisions import Base, Entry, WorkTree
from tools.compare.sides import Unknown


def headline(of: Comparison) -> str:
    """The verdict in one sentence."""
    if of.verdict == "unknown" or isinstance(of.test, Unknown):
        return f"Better or worse is not known: {of.reason}"
    if of.same_predictions:
        images = f"{of.test.images[1]:,} test images"
        return f"No difference: all {images} are predicted as before{_others(of)}"
    low, high, before, after = _numbers(of, of.test)
    numbers = f"{percent(before)} → {percent(after)}"
    accuracy = "mean test accuracy" if _of_means(of) and max(_counts(of)) > 1 else "test accuracy"
    if of.verdict == "no difference":
        shown = f"between {sections.signed(low)} and {sections.signed(high)} points, so not shown"
        return f"No difference beyond noise: {accuracy} {numbers}, {shown} either way{_others(of)}"
    word = "rose" if of.verdict == "better" else "fell"
    points = f"{100 * abs(after - before):.2f} points"
    return f"{of.verdict.capitalize()}: {accuracy} {word} by {points}, {numbers}{_others(of)}"


def _counts(of: Comparison) -> tuple[int, int]:
    """How many trainings of each side there are."""
    return len(of.before.trainings) or 1, len(of.after.trainings) or 1


def _numbers(of: Comparison, test: Test) -> tuple[float, float, float, float]:
    """Limits of the difference, and both accuracies: of all trainings, or of one a side."""
    if weighed := _of_means(of):
        return weighed.low, weighed.high, *weighed.means
    return test.low, test.high, *test.accuracies


def _of_means(of: Comparison) -> Evidence | None:
    """The evidence of all trainings, where it holds the chance of the training too."""
    weighed = of.evidence.get(scores.ACCURACY)
    return weighed if weighed is not None and weighed.both_chances else None


def _others(of: Comparison) -> str:
    """What loss and calibration say beside an accuracy, where they say something."""
    words = []
    for name, title in ((scores.LOSS, "loss"), (scores.CALIBRATION, "calibration")):
        weighed = of.evidence.get(name)
        if weighed is None or weighed.p_value >= statistics.LEVEL:
            continue
        if weighed.both_chances:
            words.append(f"{title} {weighed.verdict()}")
        else:
            way = "higher" if weighed.difference > 0 else "lower"
            noun = "loss" if name == scores.LOSS else "calibration error"
            words.append(f"{noun} {way} than the choice of test images explains")
    return "".join(f"; {word}" for word in words)


def evidence(of: Comparison) -> str:
    """What the verdict rests on, in a few sentences."""
    if isinstance(of.test, Unknown):
        return (
            "The accuracies below are shown side by side, but their difference would mean nothing."
            if not of.comparable
            else "What is known of each side is below."
        )
    test = of.test
    limits = f"{sections.signed(test.low)} and {sections.signed(test.high)} points"
    if test.fixed is None or test.broken is None:
        return (
            f"Compared by totals alone: {test.correct[0]:,} of {test.images[0]:,} test images were "
            f"correct before, {test.correct[1]:,} of {test.images[1]:,} are now. {_chance(test)} "
            f"(Fisher's exact test). The difference lies between {limits} with 95 % confidence "
            "(Newcombe's hybrid score interval), as far as the choice of test images goes. The "
            "same images could not be paired, which would tell smaller differences from noise: "
            f"{markdown.escape(test.why_unpaired)}."
        )
    if of.same_predictions:
        return ""
    stale = f"Going by the files as they are, which are out of date: {of.outdated}."
    opening = f"{markdown.escape(stale)} " if of.outdated else ""
    if weighed := _of_means(of):
        return opening + _of_all_trainings(weighed, test)
    return (
        f"{opening}Of the same {test.images[1]:,} test images {len(test.fixed):,} were fixed and "
        f"{len(test.broken):,} broken. {_chance(test)} (McNemar's exact test). The difference lies "
        f"between {limits} with 95 % confidence (Newcombe's interval for paired proportions), as "
        f"far as the choice of test images goes. {_few(of)}, so how much another seed would move "
        f"it is not known: {markdown.code(MORE)} and the same with "
        f"{markdown.code(of.before.name)} train what is missing."
    )


def _of_all_trainings(weighed: Evidence, test: Test) -> str:
    before, after = weighed.trainings
    limits = f"{sections.signed(weighed.low)} and {sections.signed(weighed.high)} points"
    return (
        f"Mean of {before} training{'s' * (before > 1)} before and of {after} after, which differ "
        f"in their seed alone, on the same {test.images[1]:,} test images: "
        f"{percent(weighed.means[0])} and {percent(weighed.means[1])}. The difference lies between "
        f"{limits} with 95 % confidence, p {_equals(weighed.p_value)}; other seeds and other test "
        f"images are both allowed for."
    )


def _few(of: Comparison) -> str:
    """How many trainings there are, where those of a side are too few."""
    before, after = _counts(of)
    if before == after:
        return "There is one training a side"
    return f"There {'is' if before == 1 else 'are'} {before} before and {after} after"


def _equals(p_value: float) -> str:
    shown = sections.probability(p_value)
    return shown if shown.startswith("below") else f"= {shown}"


def _chance(test: Test) -> str:
    return (
        "Were both models equally good, chance alone would make a difference like this or a larger "
        f"one with probability {sections.probability(test.p_value)}"
    )


def write(
    of: Comparison,
    base: Base,
    tree: WorkTree,
    figures: Iterable[str] = (),
    note: str = "",
    checks: Sequence[Check] = (),
    history: Sequence[Entry] = (),
    declared: Declared | None = None,
) -> str:
    """The whole report.

    Args:
        of: What was compared.
        base: The revision.
        tree: The state of the work tree.
        figures: The figures that lie beside the report.
        note: Why there are no figures, if a reader should know.
        checks: What became of the rules of the gate.
        history: The results up to the revision.
        declared: What dvc.yaml declares beside the pipeline's own.
    """
    drawn = set(figures)
    blocks = [
        f"## {sections.MARKS[of.verdict]} {markdown.escape(headline(of))}",
        evidence(of),
        *(f"⚠️ **{markdown.escape(warning)}**" for warning in of.warnings),
        _gate(checks),
        _compared(base, tree),
        sections.test_metrics(of),
        *sections.changes(of),
        sections.spread(of),
        sections.classes(of),
        sections.confusions(of, sections.CONFUSION in drawn),
        sections.images(of, sections.IMAGES in drawn),
        sections.training(of, sections.CURVES in drawn),
        sections.declared(of, declared or Declared(), drawn),
        sections.history(history),
        sections.stages(of.stages),
        sections.model(of),
        _method(of),
        f"<sub>{markdown.escape(note)}</sub>" if note else "",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _gate(checks: Sequence[Check]) -> str:
    if not checks:
        return ""
    words = {"pass": "pass", "fail": "**fail**", "not known": "**not known**"}
    rows = [[markdown.escape(each.says), words[each.status]] for each in checks]
    return markdown.table(["Gate", ""], rows)


def _compared(base: Base, tree: WorkTree) -> str:
    where = f"on branch {markdown.code(tree.branch)}" if tree.branch else "with a detached HEAD"
    dirty = ", with uncommitted changes" if tree.dirty else ""
    how = f", {markdown.escape(base.how)}" if not base.commit.startswith(base.how) else ""
    hint = ""
    if base.commit == tree.commit:
        hint = (
            " That is the present commit itself: only uncommitted changes are compared."
            if tree.dirty
            else " That is the present commit itself, and nothing is uncommitted: name an earlier "
            "revision to compare with."
        )
    return (
        f"Before: {markdown.code(base.short)}{how}. After: the work tree at "
        f"{markdown.code(tree.commit[:7])} {where}{dirty}.{hint}"
    )


def _method(of: Comparison) -> str:
    weighed = of.evidence.get(scores.ACCURACY)
    if weighed is not None and weighed.both_chances:
        text = (
            "Better and worse mean p below 0.05 in a test of the mean over trainings and test "
            "images: a crossed analysis of variance, Student's t with Satterthwaite's degrees of "
            "freedom. 'No difference beyond noise' is no proof of equality: the interval says how "
            "large a difference may still be."
        )
    else:
        text = (
            "With one training on a side the test knows how much chance is in the choice of the "
            "test images; it does not know how much another training seed would have moved the "
            "result. So there is no better and no worse, only whether the test images explain it."
        )
    return markdown.details("How to read this", text)
