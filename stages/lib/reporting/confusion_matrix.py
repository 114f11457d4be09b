"""A square matrix over the classes as a chart: blue is correct, red is incorrect."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.image import AxesImage

from stages.lib.reporting import drawing, palette, stage_outputs

_LABELLED = 20  # classes up to which each cell holds its number
_MOST_CONFUSED = 50  # classes shown where there are many


def shown_classes(predictions: stage_outputs.Predictions) -> npt.NDArray[np.int64]:
    """The labels of the classes that a confusion matrix shows, ascending.

    All of them up to 100; where there are more, the 50 of the most frequent confusions, for a
    matrix of them all would be too large to read, and its memory quadratic in their number.
    """
    num_classes = predictions.probabilities.shape[1]
    if num_classes <= drawing.MANY_CLASSES:
        return np.arange(num_classes)
    labels = [
        label
        for pair in stage_outputs.confusions(predictions, _MOST_CONFUSED)
        for label in (pair.actual, pair.predicted)
    ]
    labels += range(num_classes)  # where there are fewer confusions
    return np.array(sorted(list(dict.fromkeys(labels))[:_MOST_CONFUSED]), np.int64)


class ClassMatrix:
    """The layout of a matrix of K x K classes, a row an actual class, a column a predicted one.

    Args:
        class_names: K names.

    Attributes:
        width: From the left edge of the names to the right edge of the cells, in inches.
        height: From the upper edge of the cells to the lower edge of the names, in inches.
        side: The width and height of all cells, in inches.
        labelled: Whether each cell holds its number.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        count = len(class_names)
        self._cell = float(np.clip(5.2 / count, 0.095, max(0.6, 2.7 / count)))
        self._points = min(drawing.TEXT, 0.75 * self._cell * 72)
        self._names = [drawing.fit(name, 1.2, self._points) for name in class_names]
        longest = max(drawing.text_width(name, self._points) for name in self._names)
        self._turned = longest > 0.8 * self._cell
        self.labelled = count <= _LABELLED
        self.side = count * self._cell
        self._left = 0.42 + longest
        self.width = self._left + self.side
        self.height = self.side + 0.42 + (longest if self._turned else 0.12)

    def draw(
        self,
        sheet: drawing.Sheet,
        strength: npt.NDArray[np.float64],
        numbers: npt.NDArray[np.int64],
        form: str = "d",
    ) -> AxesImage:
        """Draws the cells at the bottom left of the sheet, with the names of the classes.

        Args:
            sheet: Where to.
            strength: K x K, the colours: from -1, red, by 0, white, to 1, blue.
            numbers: K x K, what the cells hold; a 0 is not written.
            form: How a number is written, in Python's format language.
        """
        axes = sheet.axes(self._left, sheet.height - self.height, self.side, self.side)
        colours = [palette.INCORRECT, "#ffffff", palette.CORRECT]
        colour_map = LinearSegmentedColormap.from_list("correct", colours)
        image = axes.imshow(strength, cmap=colour_map, norm=Normalize(-1, 1))
        places = range(len(self._names))
        turn = 90 if self._turned else 0
        axes.set_xticks(places, self._names, fontsize=self._points, rotation=turn)
        axes.set_yticks(places, self._names, fontsize=self._points)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(True)
        axes.set(xlabel="predicted class", ylabel="actual class")
        if self.labelled:
            self._label(axes, strength, numbers, form)
        return image

    def _label(
        self,
        axes: Axes,
        strength: npt.NDArray[np.float64],
        numbers: npt.NDArray[np.int64],
        form: str,
    ) -> None:
        points = min(self._points, self._cell * 72 / 3)
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": points}
        for row, column in zip(*np.nonzero(numbers), strict=True):
            colour = "#ffffff" if abs(strength[row, column]) > 0.75 else palette.INK
            text = format(int(numbers[row, column]), form).replace("-", "−")
            axes.text(column, row, text, color=colour, **style)
