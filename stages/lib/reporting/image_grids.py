"""Figures made of images: the first one, a grid of samples, predictions beside their images."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from stages.lib.reporting import drawing, palette
from stages.lib.reporting.alt_text import none_misclassified
from stages.lib.reporting.data_tables import Look
from stages.lib.reporting.stage_outputs import Predictions

Images = npt.NDArray[np.float32]  # N x H x W or N x H x W x C, 0 to 1
Pixels = npt.NDArray[np.uint8]

_NARROWEST = 3.6  # inches; room for a title


def raw_image(image: Images, name: str, pixel_max: float) -> bytes:
    """The first training image with a colour bar of its raw values, as PNG.

    Args:
        image: H x W or H x W x C, 0 to 1.
        name: Its class.
        pixel_max: The raw value that became 1.
    """
    panels = _panels(image)
    limit = 3.0 if len(panels) == 1 else 6.0 / len(panels)
    scale = min(limit / image.shape[1], 1.5 * limit / image.shape[0])  # inches a pixel
    wide, high = image.shape[1] * scale, image.shape[0] * scale
    cell, room = max(wide, 0.9), max(high, 1.75)  # what the labels of axes and colour bar take
    ticks = np.linspace(0, pixel_max, 6 if pixel_max % 4 else 5).tolist()
    labels = [f"{value:g}" for value in ticks]
    right = 0.5 + max(drawing.text_width(label, drawing.SMALL) for label in labels)
    width = max(_NARROWEST, 0.7 + len(panels) * (cell + 0.15) + right)
    subtitle = f"{image.shape[0]} × {image.shape[1]} pixels, on the scale of the raw values"
    title = f"First training image: {drawing.fit(name, max(1.0, width - 2.6), drawing.TITLE)}"
    with drawing.sheet(width, room + 0.7, title, subtitle) as sheet:
        top = sheet.height - room - 0.5
        values = Normalize(0, pixel_max)
        for at, (panel, pixels) in enumerate(panels.items()):
            left = 0.7 + at * (cell + 0.15) + (cell - wide) / 2
            axes = sheet.axes(left, top + (room - high) / 2, wide, high)
            raw = pixels if pixels.ndim == 3 else pixels * pixel_max
            axes.imshow(raw, cmap="gray", norm=values, aspect="auto")
            axes.spines[:].set_visible(True)
            axes.xaxis.set_major_locator(_pixel_ticks(wide))
            axes.yaxis.set_major_locator(_pixel_ticks(high))
            axes.set_title(panel if len(panels) > 1 else "")
            axes.set_xlabel("column (pixels)")
            axes.set_ylabel("" if at else "row (pixels)")
            axes.tick_params(labelleft=not at)
        place = sheet.axes(0.7 + len(panels) * (cell + 0.15), top, 0.13, room)
        bar = sheet.figure.colorbar(ScalarMappable(values, "gray"), cax=place)
        bar.set_ticks(ticks, labels=labels)
        bar.set_label(f"raw pixel value (0 to {pixel_max:g})")
    return sheet.png


def _pixel_ticks(inches: float) -> MaxNLocator:
    return MaxNLocator(integer=True, nbins=max(1, min(6, int(4 * inches))))


def _panels(image: Images) -> dict[str, Images]:
    """The panels that show an image: itself in colour if it has any, and each channel in grey."""
    if image.ndim == 2 or image.shape[-1] == 1:
        return {"grey": image.reshape(image.shape[:2])}
    if image.shape[-1] == 3:
        channels = {name: image[..., at] for at, name in enumerate(("red", "green", "blue"))}
        return {"in colour": image, **channels}
    return {f"channel {at}": image[..., at] for at in range(min(4, image.shape[-1]))}


def samples(images: Images, names: Sequence[str]) -> bytes:
    """A grid of training images with their class names, as PNG.

    Args:
        images: N x H x W or N x H x W x C, 0 to 1.
        names: N class names.
    """
    count = len(images)
    columns = min(count, max(5, math.ceil(math.sqrt(count))))
    cell = min(1.26, 8.0 / columns)
    points = drawing.TEXT if cell > 1 else drawing.SMALL
    width = max(_NARROWEST, columns * cell + drawing.MARGIN)
    side, high = cell - 0.1, cell + 0.16
    title = f"First {count} training images" if count > 1 else "First training image"
    rows = math.ceil(count / columns)
    with drawing.sheet(width, rows * high + 0.04, title) as sheet:
        top = sheet.height - rows * high - 0.04
        places = [
            (drawing.MARGIN + at % columns * cell, top + at // columns * high)
            for at in range(count)
        ]
        for image, name, (x, y) in zip(images, names, places, strict=True):
            sheet.paste(x, y, thumbnail(image, round(side * drawing.DPI)))
            label = drawing.fit(name, cell - 0.04, points)
            sheet.text(x + side / 2, y + side + 0.03, label, ha="center", fontsize=points)
    return sheet.png


def augmented(images: Images, names: Sequence[str]) -> bytes:
    """Training images, one a row, each before what augmentation makes of it, as PNG.

    Args:
        images: n x V x H x W or n x V x H x W x C, 0 to 1; the first of each row is the original.
        names: n class names.
    """
    rows, columns = images.shape[:2]
    cell, first = 1.05, 0.25  # inches; the gap behind the originals
    label = max(drawing.text_width(name, drawing.SMALL) for name in names)
    left = drawing.MARGIN + min(1.2, label) + 0.1
    width = max(_NARROWEST, left + columns * cell + first + drawing.MARGIN)
    title = "Training images before and after augmentation"
    subtitle = "Left: as they are. Right: as the network is given them, drawn anew at every step."
    with drawing.sheet(width, rows * cell, title, subtitle) as sheet:
        top = sheet.height - rows * cell
        for row, (variants, name) in enumerate(zip(images, names, strict=True)):
            y = top + row * cell
            fitting = drawing.fit(name, 1.2, drawing.SMALL)
            sheet.text(left - 0.1, y + cell / 2 - 0.1, fitting, ha="right", fontsize=drawing.SMALL)
            for column, image in enumerate(variants):
                x = left + column * cell + (first if column else 0)
                sheet.paste(x, y, thumbnail(image, round((cell - 0.1) * drawing.DPI)))
    return sheet.png


def predictions(
    title: str,
    images: Images,
    indices: Sequence[int],
    test: Predictions,
    class_names: Sequence[str],
) -> bytes:
    """Test images, each with its labels and the probabilities of classes as bars, as PNG.

    Up to 100 classes each has its bar; where there are more, the five most probable ones have.

    Args:
        title: Of the figure.
        images: The n images shown, n x H x W or n x H x W x C, 0 to 1.
        indices: Their n places in the test set.
        test: The predictions for the whole test set.
        class_names: K names.
    """
    if not indices:
        return _empty(title, none_misclassified(len(test.actual)))
    columns, rows = min(3, len(indices)), math.ceil(len(indices) / 3)
    width = max(_NARROWEST, columns * _CELL_WIDTH + drawing.MARGIN)
    bars = f"by class label, 0 to {len(class_names) - 1}"
    if len(class_names) > drawing.MANY_CLASSES:
        bars = f"of the {_MOST_PROBABLE} most probable of {len(class_names):,} classes, by label"
    subtitle = f"Blue is correct, red is incorrect. Bars: probability (0 to 1) {bars}."
    with drawing.sheet(width, rows * _CELL_HEIGHT, title, subtitle) as sheet:
        top = sheet.height - rows * _CELL_HEIGHT
        places = [
            (drawing.MARGIN + at % 3 * _CELL_WIDTH, top + at // 3 * _CELL_HEIGHT)
            for at in range(len(indices))
        ]
        _bars(sheet, places, test, indices)
        for image, index, (x, y) in zip(images, indices, places, strict=True):
            sheet.paste(x, y, thumbnail(image, round(_SIDE * drawing.DPI)))
            _label(sheet, x, y, test, index, class_names)
    return sheet.png


def second_looks(
    images: Sequence[Images], looks: Sequence[Look], class_names: Sequence[str]
) -> bytes:
    """Images whose labels are worth a second look, with label and likeliest other class, as PNG.

    Args:
        images: The n images, H x W or H x W x C, 0 to 1.
        looks: What is doubted of each.
        class_names: K names.
    """
    columns = min(4, len(looks))
    files = [look.name.rpartition("/")[2] for look in looks]
    names = [name if drawing.is_drawable(name) else "" for name in files]
    high = 1.72 + (0.13 if any(names) else 0)
    rows = math.ceil(len(looks) / columns)
    width = max(_NARROWEST, columns * _LOOK_WIDTH + drawing.MARGIN)
    subtitle = "The label and the likeliest other class, with their probabilities."
    with drawing.sheet(width, rows * high, "Labels worth a second look", subtitle) as sheet:
        top = sheet.height - rows * high
        for at, (image, look, name) in enumerate(zip(images, looks, names, strict=True)):
            x, y = drawing.MARGIN + at % columns * _LOOK_WIDTH, top + at // columns * high
            sheet.paste(x, y, thumbnail(image, round(_LOOK_SIDE * drawing.DPI)))
            y += _LOOK_SIDE + 0.04
            _chance(sheet, x, y, "label", class_names[look.label], look.probability)
            _chance(sheet, x, y + 0.14, "or", class_names[look.other], look.other_probability)
            style: dict[str, Any] = {"fontsize": drawing.SMALL, "color": palette.MUTED}
            sheet.text(x, y + 0.28, f"{look.split} image {look.index}", **style)
            if name:
                fitting = drawing.fit(name, _LOOK_WIDTH - 0.1, drawing.SMALL)
                sheet.text(x, y + 0.41, fitting, **style)
    return sheet.png


_LOOK_WIDTH, _LOOK_SIDE = 1.6, 1.2  # inches


def _chance(
    sheet: drawing.Sheet, x: float, y: float, role: str, name: str, probability: float
) -> None:
    says = f"{role}: {{}}, {100 * probability:.1f}\N{NO-BREAK SPACE}%"
    room = _LOOK_WIDTH - 0.1 - drawing.text_width(says, drawing.TEXT)
    sheet.text(x, y, says.format(drawing.fit(name, room, drawing.TEXT)))


_CELL_WIDTH, _CELL_HEIGHT, _SIDE = 2.14, 1.34, 0.86  # inches
_MOST_PROBABLE = 5  # bars where there are many classes
_TICK, _MONO = 5.5, 0.602  # points; width of a letter of DejaVu Sans Mono at size 1
_BAR_LEFT, _BAR_ROOM, _BAR_HEIGHT = 0.94, 1.06, 0.76  # inches, of the bars beside an image


def _label(
    sheet: drawing.Sheet, x: float, y: float, test: Predictions, index: int, names: Sequence[str]
) -> None:
    correct = bool(test.correct[index])
    confidence = f"{100 * test.confidences[index]:.1f}\N{NO-BREAK SPACE}%"
    says = f"{'✓' if correct else '✗'} {{}} {confidence}"
    room = _CELL_WIDTH - 0.12 - drawing.text_width(says, drawing.TEXT)
    name = drawing.fit(names[test.predicted[index]], room, drawing.TEXT)
    colour = palette.CORRECT if correct else palette.INCORRECT
    sheet.text(x, y + _SIDE + 0.05, says.format(name), color=colour, fontweight="normal")
    truth = f"actual: {{}} · image {index}"
    room = _CELL_WIDTH - 0.12 - drawing.text_width(truth, drawing.SMALL)
    name = drawing.fit(names[test.actual[index]], room, drawing.SMALL)
    sheet.text(x, y + _SIDE + 0.2, truth.format(name), fontsize=drawing.SMALL, color=palette.MUTED)


def _bars(
    sheet: drawing.Sheet,
    places: Sequence[tuple[float, float]],
    test: Predictions,
    indices: Sequence[int],
) -> None:
    """All bars of a sheet as one collection: an artist a bar would take ten times as long."""
    axes = _whole(sheet)
    corners, fills, lines = [], [], []
    for (x, y), index in zip(places, indices, strict=True):
        x, base = x + _BAR_LEFT, y + _BAR_HEIGHT
        labels = _bar_labels(test.probabilities[index])
        pitch = _BAR_ROOM / len(labels)
        a = x + np.arange(len(labels)) * pitch + 0.1 * pitch
        b = a + 0.8 * pitch
        tops = base - _BAR_HEIGHT * test.probabilities[index][labels]
        foot = np.full(len(labels), base)
        corners.append(np.stack([[a, a, b, b], [foot, tops, tops, foot]], axis=-1).swapaxes(0, 1))
        colours = {int(test.predicted[index]): palette.INCORRECT}
        colours[int(test.actual[index])] = palette.CORRECT
        fills += [colours.get(label, palette.OTHER) for label in labels.tolist()]
        lines += [[(x, base), (x + _BAR_ROOM, base)], [(x, base), (x, base - _BAR_HEIGHT)]]
        if len(labels) == len(test.probabilities[index]):
            _ticks(sheet, x, base + 0.015, len(labels), colours)
        else:
            _sparse_ticks(sheet, x, base + 0.015, labels, colours)
    axes.add_collection(PolyCollection(np.concatenate(corners), facecolors=fills, linewidths=0))  # type: ignore[arg-type]
    axes.add_collection(LineCollection(lines, colors=palette.MUTED, linewidths=0.5))


def _bar_labels(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The labels of the classes that have a bar, ascending."""
    if len(probabilities) <= drawing.MANY_CLASSES:
        return np.arange(len(probabilities))
    return np.sort(np.argsort(-probabilities, kind="stable")[:_MOST_PROBABLE])


def _ticks(
    sheet: drawing.Sheet, x: float, y: float, num_classes: int, colours: Mapping[int, str]
) -> None:
    """The labels under the bars of all classes; beyond ten, of the predicted and the actual one."""
    pitch = _BAR_ROOM / num_classes
    style: dict[str, Any] = {"ha": "center", "fontsize": _TICK}
    if num_classes > 10:
        for label, colour in colours.items():
            sheet.text(x + (label + 0.5) * pitch, y, str(label), color=colour, **style)
        return
    # One text and not one a label: texts take most of the time. In a font of fixed width, spaces
    # and a size can be had that put each label under its bar.
    letters = max(2, round(pitch * 72 / _MONO / _TICK))
    style |= {"fontsize": pitch * 72 / _MONO / letters, "family": "DejaVu Sans Mono"}
    text = (" " * (letters - 1)).join(str(label) for label in range(num_classes))
    sheet.text(x + _BAR_ROOM / 2, y, text, **style)


def _sparse_ticks(
    sheet: drawing.Sheet,
    x: float,
    y: float,
    labels: npt.NDArray[np.int64],
    colours: Mapping[int, str],
) -> None:
    """The labels under the bars of some classes, small enough to stand side by side."""
    pitch = _BAR_ROOM / len(labels)
    digits = len(str(labels.max()))
    points = min(_TICK, 0.85 * pitch * 72 / _MONO / digits)
    for at, label in enumerate(labels.tolist()):
        colour = colours.get(label, palette.INK)
        style: dict[str, Any] = {"ha": "center", "fontsize": points, "color": colour}
        sheet.text(x + (at + 0.5) * pitch, y, str(label), **style)


def _whole(sheet: drawing.Sheet) -> Axes:
    """Axes over the whole sheet, in inches from the upper left."""
    axes = sheet.axes(0, 0, sheet.width, sheet.height)
    axes.set(xlim=(0, sheet.width), ylim=(sheet.height, 0))
    axes.axis("off")
    return axes


def _empty(title: str, text: str) -> bytes:
    with drawing.sheet(5.0, 0.4, title, text) as sheet:
        pass
    return sheet.png


def thumbnail(image: Images, size: int) -> Pixels:
    """An image in a white square, its pixels repeated, or averaged where it is larger.

    Args:
        image: H x W or H x W x C, 0 to 1; three channels are red, green and blue, of any other
            number the mean is shown in grey.
        size: The square's, in pixels.

    Returns:
        size x size x 3.
    """
    if image.ndim == 2 or image.shape[-1] != 3:
        grey = image if image.ndim == 2 else image.mean(axis=-1)
        image = np.repeat(grey[..., None], 3, axis=-1)
    if (factor := math.ceil(max(image.shape[:2]) / size)) > 1:
        image = _averaged(image, factor)
    height, width = image.shape[:2]
    scale = size / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    square = np.full((size, size, 3), 255, np.uint8)
    top, left = (size - rows) // 2, (size - columns) // 2
    down, across = np.arange(rows) * height // rows, np.arange(columns) * width // columns
    pixels = np.rint(image[down][:, across] * 255).astype(np.uint8)
    square[top : top + rows, left : left + columns] = pixels
    return square


def _averaged(image: Images, factor: int) -> Images:
    """The means of blocks of factor x factor pixels; blocks at the lower right may be smaller."""
    sums = np.add.reduceat(image, np.arange(0, image.shape[0], factor), axis=0)
    sums = np.add.reduceat(sums, np.arange(0, image.shape[1], factor), axis=1)
    ones = np.ones((*image.shape[:2], 1), np.float32)
    counts = np.add.reduceat(ones, np.arange(0, image.shape[0], factor), axis=0)
    counts = np.add.reduceat(counts, np.arange(0, image.shape[1], factor), axis=1)
    return np.asarray(sums / counts, np.float32)
