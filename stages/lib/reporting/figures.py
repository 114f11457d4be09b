"""Charts of the training and of the test results, each as the bytes of a PNG file."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from stages.lib.metrics import Calibration, PerClass, confusion_matrix, wilson_interval
from stages.lib.reporting import drawing, palette
from stages.lib.reporting.confusion_matrix import ClassMatrix, shown_classes
from stages.lib.reporting.stage_outputs import Predictions

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_LATEST_START = 0.99  # where the axis of scores begins at the latest, however good they all are
_ENDS = 25  # best and worst classes shown where there are many classes
_UNITS = {"loss": "loss (cross-entropy, nats)", "accuracy": "accuracy (proportion of images)"}


def curves(history: Mapping[str, Floats]) -> bytes:
    """Loss and accuracy by epoch; without a validation split, of the training alone.

    Args:
        history: E values each of epoch, loss, accuracy and, perhaps, val_loss and val_accuracy.
    """
    subtitle = "Mean over the images of each split, by epoch"
    with drawing.sheet(6.6, 2.6, "Training", subtitle) as sheet:
        top = sheet.height - 2.6
        for at, name in enumerate(("loss", "accuracy")):
            axes = sheet.axes(0.68 + at * 3.3, top, 2.5, 2.1)
            _lines(axes, history, name)
            axes.set(xlabel="epoch", ylabel=_UNITS[name])
            axes.grid(axis="y")
            axes.set_axisbelow(True)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
            if len(history["epoch"]) == 1:
                axes.set_xlim(history["epoch"][0] - 1, history["epoch"][0] + 1)
            if name == "accuracy":
                axes.yaxis.set_major_formatter(_percent())
            axes.legend(loc="lower right" if name == "accuracy" else "upper right")
    return sheet.png


def _lines(axes: Axes, history: Mapping[str, Floats], name: str) -> None:
    size = 4.0 if len(history["epoch"]) <= 40 else 0.0  # more marks would hide the line
    style: dict[str, Any] = {"marker": "o", "markersize": size, "color": palette.TRAINING}
    axes.plot(history["epoch"], history[name], label="training", **style)
    if f"val_{name}" in history:
        style |= {"marker": "s", "linestyle": (0, (4, 1.5)), "color": palette.VALIDATION}
        axes.plot(history["epoch"], history[f"val_{name}"], label="validation", **style)


def _percent() -> FuncFormatter:
    return FuncFormatter(lambda proportion, _: f"{100 * proportion:.6g}\N{NO-BREAK SPACE}%")


def confusion(predictions: Predictions, class_names: Sequence[str]) -> bytes:
    """The confusion matrix, coloured by proportion of the actual class: correct blue, others red.

    Args:
        predictions: For all test images.
        class_names: K names.
    """
    labels = shown_classes(predictions)
    grid = ClassMatrix([class_names[label] for label in labels])
    title = f"Confusion matrix of {len(predictions.actual):,} test images"
    subtitle = "Numbers of images" if grid.labelled else "Actual against predicted class"
    subtitle += "; blue is correct, red is incorrect"
    if len(labels) < len(class_names):
        subtitle += f". The {len(labels)} most confused of {len(class_names):,} classes."
    matrix, totals = _matrix(predictions, labels)
    with drawing.sheet(max(4.6, grid.width + 1.05), grid.height, title, subtitle) as sheet:
        chart = grid.draw(sheet, _strength(matrix, totals), matrix)
        _proportion_bar(sheet, chart, grid.width + 0.15, sheet.height - grid.height, grid.side)
    return sheet.png


def _matrix(predictions: Predictions, labels: Integers) -> tuple[Integers, Integers]:
    """The confusion matrix of some classes, and how many images each of them has in all."""
    num_classes, count = predictions.probabilities.shape[1], len(labels)
    place = np.full(num_classes, -1)
    place[labels] = np.arange(count)
    actual, predicted = place[predictions.actual], place[predictions.predicted]
    both = (actual >= 0) & (predicted >= 0)
    matrix = confusion_matrix(actual[both], predicted[both], count)
    return matrix, np.bincount(predictions.actual, minlength=num_classes)[labels]


def _strength(matrix: Integers, totals: Integers) -> Floats:
    """The square root of each cell's proportion of its actual class, so that 1 % can be seen.

    Cells off the diagonal are negative.
    """
    signs = 2 * np.eye(len(matrix)) - 1
    return np.asarray(np.sqrt(matrix / np.maximum(totals, 1)[:, None]) * signs, np.float64)


def _proportion_bar(
    sheet: drawing.Sheet, chart: ScalarMappable, left: float, top: float, height: float
) -> None:
    bar = sheet.figure.colorbar(chart, cax=sheet.axes(left, top, 0.13, height))
    proportions = [0.01, 0.1, 0.5, 1.0]
    roots = [*(-np.sqrt(proportions[::-1])), 0.0, *np.sqrt(proportions)]
    bar.set_ticks(roots, labels=[f"{100 * root * root:.0f}\N{NO-BREAK SPACE}%" for root in roots])
    label = "proportion of the actual class: incorrect below, correct above"
    bar.set_label(label, fontsize=drawing.SMALL)


def calibration(bins: Calibration, error: float) -> bytes:
    """The reliability diagram over the histogram of confidences.

    Source: Guo et al. (2017), "On Calibration of Modern Neural Networks", figure 1.

    Args:
        bins: B bins of confidence.
        error: The expected calibration error, 0 to 1.
    """
    title = f"Calibration: expected calibration error {100 * error:.2f}\N{NO-BREAK SPACE}%"
    interval = "95\N{NO-BREAK SPACE}% intervals"
    subtitle = f"Accuracy by confidence; dashed: perfect calibration; black: {interval}"
    with drawing.sheet(5.2, 4.5, title, subtitle) as sheet:
        top = sheet.height - 4.4
        upper, lower = sheet.axes(0.75, top, 4.2, 2.75), sheet.axes(0.75, top + 2.95, 4.2, 0.95)
        _reliability(upper, bins)
        lower.bar(bins.edges[:-1], bins.images, color=palette.OTHER, **_bar_style(bins))
        lower.set_ylabel("images")
        lower.set_xlabel("confidence (probability of the predicted class)")
        for axes in (upper, lower):
            axes.set_xlim(0, 1)
            axes.xaxis.set_major_formatter(_percent() if axes is lower else NullFormatter())
            axes.grid(axis="y")
            axes.set_axisbelow(True)
    return sheet.png


def _reliability(axes: Axes, bins: Calibration) -> None:
    """Accuracy by bin, from it to the confidence hatched, its interval as a line."""
    some = bins.images > 0
    accuracy = np.where(some, bins.accuracy, 0)
    gap = np.where(some, bins.confidence - bins.accuracy, 0)
    axes.bar(bins.edges[:-1], accuracy, color=palette.CORRECT, label="accuracy", **_bar_style(bins))
    for label, height, hatch, colour in (
        ("overconfident", np.maximum(gap, 0), "/////", palette.INCORRECT),
        ("underconfident", np.minimum(gap, 0), ".....", palette.CORRECT),
    ):
        if height.any():
            style = {"color": "#ffffff", "edgecolor": colour, "hatch": hatch, "bottom": accuracy}
            axes.bar(bins.edges[:-1], height, label=label, **_bar_style(bins) | style)
    centres = (bins.edges[:-1] + bins.edges[1:])[some] / 2
    counts = zip(bins.images[some].tolist(), bins.accuracy[some].tolist(), strict=True)
    limits = [wilson_interval(round(mean * images), images) for images, mean in counts]
    axes.vlines(centres, *zip(*limits, strict=True), color=palette.INK, linewidth=0.9, zorder=3)
    axes.plot([0, 1], [0, 1], color=palette.INK, linewidth=1, linestyle=(0, (4, 2)))
    axes.set(ylim=(0, 1), ylabel="accuracy (proportion of images)")
    axes.yaxis.set_major_formatter(_percent())
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, borderaxespad=0.1)


def _bar_style(bins: Calibration) -> dict[str, Any]:
    return {"width": np.diff(bins.edges), "align": "edge", "edgecolor": "#ffffff", "linewidth": 0.8}


def per_class(class_names: Sequence[str], scores: PerClass) -> bytes:
    """F1 by class, best first, between precision and recall.

    Classes without an F1, which no test image is of or is predicted as, are left out.

    Args:
        class_names: K names.
        scores: K values each.
    """
    precision, recall, f1 = scores.precision, scores.recall, scores.f1
    order, subtitle = _ranked(f1)
    count = len(order)
    pitch = 0.24 if count <= 30 else 0.14
    points = drawing.TEXT if count <= 30 else 6.5
    names = [drawing.fit(class_names[at], 1.4, points) for at in order]
    left = 0.3 + max(drawing.text_width(name, points) for name in names)
    with drawing.sheet(6.4, count * pitch + 0.85, "F1 by class", subtitle) as sheet:
        high = count * pitch + 0.1
        axes = sheet.axes(left, sheet.height - high - 0.45, 6.4 - left - 0.45, high)
        rows = np.arange(count)
        lows, highs = np.fmin(precision, recall)[order], np.fmax(precision, recall)[order]
        axes.hlines(rows, lows, highs, color=palette.OTHER, linewidth=1.5, zorder=1)
        style: dict[str, Any] = {"linestyle": "none", "clip_on": False}
        colour = {"precision": palette.PRECISION, "recall": palette.RECALL, "F1": palette.CORRECT}
        shape = {"precision": (">", 4.5), "recall": ("D", 3.8), "F1": ("o", 6.0)}
        for name, values in (("precision", precision), ("recall", recall), ("F1", f1)):
            marker, size = shape[name]
            at = values[order]
            axes.plot(
                at, rows, color=colour[name], marker=marker, markersize=size, label=name, **style
            )
        if count < np.isfinite(f1).sum():
            axes.axhline(_ENDS - 0.5, color=palette.MUTED, linewidth=0.8, linestyle=(0, (4, 2)))
        _class_axis(axes, names, points, float(np.nanmin([lows.min(), f1.min()])))
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, borderaxespad=0.1)
    return sheet.png


def _ranked(f1: Floats) -> tuple[Integers, str]:
    """The labels of the classes shown, best first, and what the subtitle says of them."""
    absent = int(np.isnan(f1).sum())
    order = np.argsort(-f1, kind="stable")[: len(f1) - absent]  # NaN comes last
    subtitle = "F1, the harmonic mean of precision and recall; best class first"
    if absent:
        subtitle += f". Left out, without test images and never predicted: {absent} of {len(f1):,}"
    if len(order) <= drawing.MANY_CLASSES:
        return order, subtitle
    subtitle += (
        f". The {_ENDS} best and, below the line, the {_ENDS} worst of {len(order):,} classes."
    )
    return np.concatenate([order[:_ENDS], order[-_ENDS:]]), subtitle


def _class_axis(axes: Axes, names: list[str], points: float, low: float) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=points)
    axes.set_ylim(len(names) - 0.4, -0.6)
    low = min(low, _LATEST_START)
    start = max(0.0, low - 0.06 * (1 - low) - 0.002)
    axes.set_xlim(start, 1)
    axes.xaxis.set_major_formatter(_percent())
    axes.tick_params(axis="y", length=0, pad=6)  # a marker at 0 touches no name
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel("F1, precision, recall" + " (the axis starts above 0)" * (start > 0))
