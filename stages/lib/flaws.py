"""Leaks and conflicts of a data set in words.

Normalize warns of them, the report page opens with them, ``python -m tools.audit --data`` fails by
them.
"""

from collections.abc import Mapping, Sequence

COUNTS = ("validation_images", "test_images", "leaked_validation", "leaked_test", "conflicts")


def flaws(metrics: Mapping[str, int]) -> Sequence[str]:
    """A sentence for each kind of leak or conflict that there is.

    Args:
        metrics: Of reports/data/metrics.json, ``COUNTS`` at the least.
    """
    sentences = []
    for split, earlier in (("test", "the training or validation"), ("validation", "the training")):
        count, images = metrics[f"leaked_{split}"], metrics[f"{split}_images"]
        if count:
            verb = "is" if count == 1 else "are"
            sentences.append(
                f"{count:,} of {_counted(images, f'{split} image')} {verb} in {earlier} split too, "
                "equal in every pixel."
            )
    if count := metrics["conflicts"]:
        verb = "occurs" if count == 1 else "occur"
        sentences.append(f"{_counted(count, 'image')} {verb} more than once with different labels.")
    return sentences


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
