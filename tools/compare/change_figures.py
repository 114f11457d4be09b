"""The figures of a comparison as bytes of PNG files: those that its data allow, and each."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from stages.lib import split_file
from stages.lib.core.errors import UserError
from stages.lib.reporting import drawing, image_grids, palette
from stages.lib.reporting.confusion_matrix import ClassMatrix
from stages.lib.stored_images import Images
from tools.compare import sections, sides
from tools.compare.comparison import Comparison, class_name, matrices
from tools.compare.declared import Plot
from tools.compare.sides import Labels, Unknown

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
History = dict[str, Floats]

_COLUMNS, _SHOWN = 6, 12  # images a row, images a side
_CELL, _SIDE = 1.2, 1.06  # inches


def draw(of: Comparison, fetch: Callable[[str], Path]) -> tuple[dict[str, bytes], str]:
    """PNG bytes by file name, and why the test images are not shown, if they should be.

    Args:
        of: What was compared.
        fetch: The path of an output of the work tree, which may raise a UserError.
    """
    drawn = {}
    before, after = of.before, of.after
    if not isinstance(before.history, Unknown) and not isinstance(after.history, Unknown):
        drawn[sections.CURVES] = curves(before.history, after.history)
    pair = matrices(of)
    if pair is None or of.same_predictions:
        return drawn, ""
    names = drawing.drawable([class_name(of, label) for label in range(len(pair[0]))])
    drawn[sections.CONFUSION] = confusion_change(pair[1] - pair[0], names)
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
    misclassified_as = before.predicted.copy()
    misclassified_as[~after.correct] = after.predicted[~after.correct]
    return changed_images(
        images,
        test.fixed or [],
        test.broken or [],
        [names[label] for label in after.actual],
        [names[label] for label in misclassified_as],
    )


def curves(before: History, after: History) -> bytes:
    """Loss and accuracy by epoch of both runs: before dashed, after solid.

    Args:
        before: Columns epoch, loss, accuracy and, if validated, val_loss, val_accuracy, E each.
        after: The same of the later run, whose E may differ.
    """
    subtitle = "Dashed: before. Solid: after. Mean over the images of each split, by epoch."
    with drawing.sheet(6.6, 2.95, "Training, before and after", subtitle) as sheet:
        top = sheet.height - 2.6
        for at, (name, label) in enumerate(
            (("loss", "loss (cross-entropy, nats)"), ("accuracy", "accuracy"))
        ):
            axes = sheet.axes(0.68 + at * 3.3, top, 2.5, 2.1)
            _lines(
                axes, before, name, {"linestyle": (0, (3, 1.5)), "linewidth": 1.1, "alpha": 0.75}
            )
            _lines(axes, after, name, {"linestyle": "solid", "linewidth": 1.8})
            axes.set(xlabel="epoch", ylabel=label)
            axes.grid(axis="y")
            axes.set_axisbelow(True)
            if max(len(run["epoch"]) for run in (before, after)) == 1:
                axes.set_xlim(0, 2)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
            if at:
                axes.yaxis.set_major_formatter(
                    FuncFormatter(
                        lambda proportion, _: f"{100 * proportion:.6g}\N{NO-BREAK SPACE}%"
                    )
                )
        lines, labels = sheet.figure.axes[0].get_legend_handles_labels()
        sheet.figure.legend(
            lines,
            labels,
            loc="upper left",
            bbox_to_anchor=(0.6 / sheet.width, 1 - (top - 0.33) / sheet.height),
            ncols=4,
            borderaxespad=0,
        )
    return sheet.png


def declared(plot: Plot) -> bytes:
    """A plot that dvc.yaml declares: before dashed, after solid, a colour a column."""
    words = list(
        dict.fromkeys(
            str(x)
            for pair in plot.lines.values()
            for points in reversed(pair)
            for x, _ in points
            if isinstance(x, str)
        )
    )
    title = _legible([plot.title], "Plot")[0]
    subtitle = "Square: before. Circle: after." if words else "Dashed: before. Solid: after."
    with drawing.sheet(6.6, 2.95, title, subtitle) as sheet:
        axes = sheet.axes(0.95, sheet.height - 2.75, 3.6, 2.2)
        colours = (palette.TRAINING, palette.VALIDATION, palette.RECALL, palette.INCORRECT)
        labels = [drawing.fit(n, 1.0, drawing.TEXT) for n in _legible(plot.lines, "column")]
        for at, (label, pair) in enumerate(zip(labels, plot.lines.values(), strict=True)):
            for points, when in zip(pair, ("before", "after"), strict=True):
                across = [words.index(x) if isinstance(x, str) else x for x, _ in points]
                style: dict[str, Any] = {"color": colours[at % len(colours)], "markersize": 3.5}
                style |= {"marker": "o", "label": f"{label}, {when}", "linewidth": 1.8}
                if when == "before":
                    style |= {"linestyle": (0, (3, 1.5)), "linewidth": 1.1, "alpha": 0.75}
                if words:  # no line between what has no order
                    style |= {"linestyle": "none", "marker": "os"[when == "before"]}
                axes.plot(across, [y for _, y in points], **style)
        if words:
            names = [drawing.fit(word, 0.9, drawing.TEXT) for word in _legible(words, "no.")]
            axes.set_xticks(range(len(words)), names, rotation=30, ha="right")
        x_label, y_label = (_legible([label], "") for label in (plot.x_label, plot.y_label))
        axes.set(xlabel=x_label[0], ylabel=y_label[0])
        axes.grid(axis="y")
        axes.legend(loc="upper left", bbox_to_anchor=(1.03, 1), borderaxespad=0)
    return sheet.png


def _legible(texts: Iterable[str], instead: str) -> list[str]:
    """Texts of letters that the figures have; others become numbers, for the report names them."""
    return [
        text if drawing.drawable([text]) == [text] else f"{instead} {at}" if instead else ""
        for at, text in enumerate(texts, start=1)
    ]


def _lines(axes: Axes, run: History, name: str, style: dict[str, Any]) -> None:
    when = "before" if "alpha" in style else "after"
    shown = (
        ("training", name, palette.TRAINING, "o"),
        ("validation", f"val_{name}", palette.VALIDATION, "s"),
    )
    for split, column, colour, marker in shown:
        values = run.get(column)
        if values is None or not np.isfinite(values).any():
            continue
        size = 3.5 if len(values) <= 40 else 0
        label = f"{split}, {when}"
        axes.plot(
            run["epoch"], values, color=colour, marker=marker, markersize=size, label=label, **style
        )


def confusion_change(change: Integers, class_names: Sequence[str]) -> bytes:
    """The change of the confusion matrix: blue where it got better, red where it got worse.

    Args:
        change: K x K images, after minus before; a row an actual class, a column a predicted one.
        class_names: K names.
    """
    grid = ClassMatrix(class_names)
    subtitle = "Images, after minus before; blue got better, red got worse"
    title = "Change of the confusion matrix"
    with drawing.sheet(max(4.6, grid.width + 0.3), grid.height, title, subtitle) as sheet:
        better = change * (2 * np.eye(len(change), dtype=np.int64) - 1)
        strength = np.sign(better) * np.sqrt(np.abs(better) / max(1, int(np.abs(better).max())))
        grid.draw(sheet, strength, change, "+d")
    return sheet.png


def changed_images(
    images: Images,
    fixed: Sequence[int],
    broken: Sequence[int],
    actual: Sequence[str],
    misclassified_as: Sequence[str],
) -> bytes:
    """The first images that were fixed and that were broken, with their classes.

    Args:
        images: The whole test set, N x H x W or N x H x W x C, 0 to 1.
        fixed: Indices of those that only the later model classifies correctly.
        broken: Indices of those that only the earlier one does.
        actual: N names of the actual classes.
        misclassified_as: N names of the incorrect classes, before or after.
    """
    blocks = [(title, list(rows)) for title, rows in (("Fixed", fixed), ("Broken", broken)) if rows]
    high = _CELL + 0.3
    heights = [0.3 + -(-min(len(rows), _SHOWN) // _COLUMNS) * high for _, rows in blocks]
    width = _COLUMNS * _CELL + 2 * drawing.MARGIN
    subtitle = "Index and actual class; below in red the incorrect class that was or is predicted"
    with drawing.sheet(width, sum(heights), "Test images that changed sides", subtitle) as sheet:
        top = sheet.height - sum(heights)
        for (title, rows), height in zip(blocks, heights, strict=True):
            shown = rows[:_SHOWN]
            says = f"{title}: {len(rows):,}"
            says += f", the first {_SHOWN}" if len(rows) > _SHOWN else ""
            sheet.text(drawing.MARGIN, top, says, fontsize=drawing.TEXT + 1, fontweight="bold")
            verb = "was" if title == "Fixed" else "now"
            for at, index in enumerate(shown):
                x = drawing.MARGIN + at % _COLUMNS * _CELL
                y = top + 0.24 + at // _COLUMNS * high
                sheet.paste(x, y, image_grids.thumbnail(images[index], round(_SIDE * drawing.DPI)))
                sheet.text(
                    x,
                    y + _SIDE + 0.03,
                    drawing.fit(f"{index}: {actual[index]}", _SIDE, drawing.TEXT),
                )
                label = drawing.fit(f"{verb} {misclassified_as[index]}", _SIDE, drawing.TEXT)
                sheet.text(x, y + _SIDE + 0.17, label, color=palette.INCORRECT)
            top += height
    return sheet.png
