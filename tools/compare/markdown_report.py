"""The report of a comparison, in Markdown: one sentence first, then numbers, then details."""

from collections.abc import Iterable

from stages.lib.reporting.alt_text import percent
from tools.compare import markdown, sections
from tools.compare.accuracy import Test
from tools.compare.comparison import Comparison
from tools.compare.revisions import Base, WorkTree
from tools.compare.sides import Unknown


def headline(of: Comparison) -> str:
    """The verdict in one sentence."""
    if of.verdict == "unknown" or isinstance(of.test, Unknown):
        return f"Better or worse is not known: {of.reason}"
    before, after = of.test.shares
    numbers = f"{percent(before)} → {percent(after)}"
    if of.verdict == "no difference":
        if of.same_predictions:
            return f"No difference: all {of.test.images[1]:,} test images are predicted as before"
        return f"No difference beyond noise: test accuracy {numbers}"
    word = "rose" if of.verdict == "better" else "fell"
    points = f"{100 * abs(of.test.difference):.2f} points"
    return f"{of.verdict.capitalize()}: test accuracy {word} by {points}, {numbers}"


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
            f"Compared by totals alone: {test.right[0]:,} of {test.images[0]:,} test images were "
            f"right before, {test.right[1]:,} of {test.images[1]:,} are now. {_chance(test)} "
            f"(Fisher's exact test). The difference lies between {limits} with 95 % confidence "
            "(Newcombe's hybrid score interval). The same images could not be paired, which would "
            f"tell smaller differences from noise: {markdown.escape(test.why_unpaired)}."
        )
    if of.same_predictions:
        return ""
    opening = "Going by the files as they are: of" if of.verdict == "unknown" else "Of"
    return (
        f"{opening} the same {test.images[1]:,} test images {len(test.fixed):,} were fixed and "
        f"{len(test.broken):,} broken. {_chance(test)} (McNemar's exact test). The difference lies "
        f"between {limits} with 95 % confidence (Newcombe's interval for paired shares)."
    )


def _chance(test: Test) -> str:
    return (
        "Were both models equally good, chance alone would make a difference like this or a larger "
        f"one with probability {sections.probability(test.p_value)}"
    )


def write(
    of: Comparison, base: Base, tree: WorkTree, pictures: Iterable[str] = (), note: str = ""
) -> str:
    """The whole report.

    Args:
        of: What was compared.
        base: The revision.
        tree: The state of the work tree.
        pictures: The figures that lie beside the report.
        note: Why there are no figures, if a reader should know.
    """
    drawn = set(pictures)
    blocks = [
        f"## {sections.MARKS[of.verdict]} {markdown.escape(headline(of))}",
        evidence(of),
        *(f"⚠️ **{markdown.escape(warning)}**" for warning in of.warnings),
        _compared(base, tree),
        sections.test_metrics(of),
        *sections.changes(of),
        sections.classes(of),
        sections.confusions(of, sections.CONFUSION in drawn),
        sections.images(of, sections.IMAGES in drawn),
        sections.training(of, sections.CURVES in drawn),
        sections.stages(of.stages),
        sections.model(of),
        _method(of),
        f"<sub>{markdown.escape(note)}</sub>" if note else "",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


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
    test = of.test
    lines = [
        (
            "Better and worse mean p below 0.05 in the test of the accuracy on the test split. It "
            "knows how much chance there is in the choice of the test images; it does not know "
            "how much another training seed would have moved the result."
        ),
    ]
    if not isinstance(test, Unknown) and (test.p_value < 0.05) != (test.low > 0 or test.high < 0):
        lines.append(
            "Interval and test are different methods and disagree here, at the edge; the verdict "
            "goes by the test."
        )
    return markdown.details("How to read this", *lines)
