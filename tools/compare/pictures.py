"""The figures that a comparison allows, drawn."""

from collections.abc import Callable
from pathlib import Path

from stages.lib import split_file
from stages.lib.core.errors import UserError
from stages.lib.reporting import drawing
from tools.compare import figures, sections, sides
from tools.compare.comparison import Comparison, class_name, matrices
from tools.compare.sides import Labels, Unknown


def draw(of: Comparison, fetch: Callable[[str], Path]) -> tuple[dict[str, bytes], str]:
    """PNG bytes by file name, and why the test images are not shown, if they should be.

    Args:
        of: What was compared.
        fetch: The path of an output of the work tree, which may raise a UserError.
    """
    drawn = {}
    before, after = of.before, of.after
    if not isinstance(before.history, Unknown) and not isinstance(after.history, Unknown):
        drawn[sections.CURVES] = figures.curves(before.history, after.history)
    pair = matrices(of)
    if pair is None or of.same_predictions:
        return drawn, ""
    names = drawing.drawable([class_name(of, label) for label in range(len(pair[0]))])
    drawn[sections.CONFUSION] = figures.confusion_change(pair[1] - pair[0], names)
    try:
        images = _changed_images(of, names, fetch)
    except UserError as error:
        return drawn, f"The test images are not shown: {str(error).splitlines()[0]}"
    return drawn | ({sections.IMAGES: images} if images else {}), ""


def _changed_images(of: Comparison, names: list[str], fetch: Callable[[str], Path]) -> bytes:
    """The images that changed sides; nothing when there is none."""
    test, before, after = of.test, of.before.labels, of.after.labels
    if isinstance(test, Unknown) or not isinstance(before, Labels) or not isinstance(after, Labels):
        return b""
    if not test.fixed and not test.broken:
        return b""
    images = split_file.read(fetch(sides.TEST)).images
    if len(images) != len(after.actual):
        raise UserError(
            f"{sides.TEST} holds {len(images)} images, {len(after.actual)} were scored."
        )
    wrong = before.predicted.copy()
    wrong[~after.right] = after.predicted[~after.right]
    return figures.changed_images(
        images,
        test.fixed or [],
        test.broken or [],
        [names[label] for label in after.actual],
        [names[label] for label in wrong],
    )
