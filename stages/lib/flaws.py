"""What is wrong with a data set, in words.

Normalize warns of it and the report page opens with it; ``python -m tools.audit --data`` fails by
leaks and conflicts, and tells the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.lib.wording import counted


@dataclass(frozen=True)
class Flaw:
    """Something that is wrong.

    Attributes:
        sentence: That says so.
        table: The table in reports/data/tables/ that says where.
        step: What to do, where results of such a data set cannot be trusted.
    """

    sentence: str
    table: str
    step: str = ""

    @property
    def fails(self) -> bool:
        """Whether results of such a data set cannot be trusted."""
        return bool(self.step)


def flaws(metrics: Mapping[str, int]) -> Sequence[Flaw]:
    """Each kind of leak, conflict and gap that there is.

    Args:
        metrics: Of reports/data/metrics.json.
    """
    found = []
    for split, earlier in (("test", "the training or validation"), ("validation", "the training")):
        count, images = metrics[f"leaked_{split}"], metrics[f"{split}_images"]
        if count:
            verb = "is" if count == 1 else "are"
            sentence = (
                f"{count:,} of {counted(images, f'{split} image')} {verb} in {earlier} split too, "
                "equal in every pixel."
            )
            step = "take the images in that table out of one split"
            found.append(Flaw(sentence, "duplicates", step))
    if count := metrics["conflicts"]:
        verb = "occurs" if count == 1 else "occur"
        sentence = f"{counted(count, 'image')} {verb} more than once with different labels."
        step = "correct the labels of those in that table, or keep one of each"
        found.append(Flaw(sentence, "duplicates", step))
    for name, lack in (
        ("untrained_classes", "no training image: no model can learn what is not shown to it."),
        ("untested_classes", "no test image: nothing is known of how well a model does there."),
    ):
        if count := metrics[name]:
            verb = "has" if count == 1 else "have"
            sentence = f"{count:,} of {counted(metrics['classes'], 'class')} {verb} {lack}"
            found.append(Flaw(sentence, "classes"))
    if count := metrics["unreadable_files"]:
        verb = "was" if count == 1 else "were"
        sentence = f"{counted(count, 'file')} could not be read as an image and {verb} left out."
        found.append(Flaw(sentence, "unreadable"))
    return found
