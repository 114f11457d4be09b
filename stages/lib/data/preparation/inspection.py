"""What is in a data set: counts, brightness, duplicates, leaks, conflicts, what is unusual.

Images are compared by the values that a model is given: equal ones by a digest of all of them,
nearly equal ones by the correlation of their pixels. They are looked at while they are written, and
of each no more is kept than a few numbers.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.lib.data.formats import Part
from stages.lib.data.preparation import neighbours

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

TINY = 10  # training images of a class, fewer of which are said
_FAR_OUT = 3.0  # interquartile ranges beyond a quartile
_VALUES = 1 << 18  # pixel values that are read at once
_IMAGE = ("split", "index", "name", "label", "class")


@dataclass(frozen=True)
class Table:
    """A table to be written as CSV."""

    header: tuple[str, ...]
    rows: list[list[object]]


@dataclass(frozen=True)
class Report:
    """What is in a data set.

    Attributes:
        metrics: Counts, by name.
        tables: By name.
    """

    metrics: dict[str, int]
    tables: dict[str, Table]


@dataclass(frozen=True)
class _Images:
    """All images, split by split; N of them.

    Attributes:
        parts: By split.
        split: N: the number of its split.
        index: N: its place in its split.
        labels: N.
        class_names: By label.
    """

    parts: Mapping[str, Part]
    split: Indices
    index: Indices
    labels: npt.NDArray[np.int64]
    class_names: Sequence[str]

    def cells(self, at: int) -> list[object]:
        """What tables say of an image: split, index, name, label, class."""
        name, part = list(self.parts.items())[self.split[at]]
        index, label = int(self.index[at]), int(self.labels[at])
        return [
            name,
            index,
            part.names[index] if part.names else "",
            label,
            self.class_names[label],
        ]

    def take(self, chosen: Indices) -> npt.NDArray[np.float32]:
        """Some images, given in ascending order."""
        parts, splits = list(self.parts.values()), self.split[chosen]
        return np.concatenate(
            [
                parts[number].take(self.index[chosen[splits == number]])
                for number in np.unique(splits)
            ]
        )


@dataclass
class _Measured:
    """What was measured of N images.

    Attributes:
        digests: N, of all values; equal images have equal ones.
        brightness: N: the mean value, 0 to 1.
        contrast: N: the standard deviation of the values, 0 to 0.5.
        blank: N: whether all values are equal.
        features: N x F, as ``neighbours`` compares them.
    """

    digests: list[bytes]
    brightness: Floats
    contrast: Floats
    blank: npt.NDArray[np.bool_]
    features: npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Copies:
    """Equal images.

    Attributes:
        groups: The images that are equal, a group for each that there is more than once.
        within: By split, how many images are copies of one before them in it.
        leaked: By split, the images that are in a split before it too.
    """

    groups: list[Indices]
    within: list[int]
    leaked: list[list[int]]


class Inspector:
    """Measures the images of a data set while they are written, split by split."""

    def __init__(
        self,
        parts: Mapping[str, Part],
        class_names: Sequence[str],
        unreadable: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Prepares for so many images.

        Args:
            parts: The splits, training first and test last.
            class_names: By label.
            unreadable: File and class of what was left out.
        """
        counts = [len(part.labels) for part in parts.values()]
        count = sum(counts)
        self._images = _Images(
            parts=parts,
            split=np.repeat(np.arange(len(parts)), counts),
            index=np.concatenate([np.arange(count) for count in counts]),
            labels=np.concatenate([part.labels for part in parts.values()]),
            class_names=class_names,
        )
        self._measured = _Measured(
            digests=[],
            brightness=np.empty(count),
            contrast=np.empty(count),
            blank=np.empty(count, bool),
            features=np.empty((count, 0), np.float32),
        )
        self._unreadable = unreadable
        self._projection: npt.NDArray[np.float32] | None = None

    def watched(self, split: str) -> Iterator[npt.NDArray[np.float32]]:
        """The images of a split in pieces, each measured; the splits are asked for in order."""
        for piece in self._images.parts[split].pieces():
            if self._projection is None:
                self._projection = neighbours.projection(piece)
                shape = len(self._images.labels), self._projection.shape[1]
                self._measured.features = np.empty(shape, np.float32)
            step = max(1, _VALUES // math.prod(piece.shape[1:]))
            for start in range(0, len(piece), step):
                self._measure(piece[start : start + step], self._projection)
            yield piece

    def _measure(
        self, images: npt.NDArray[np.float32], projection: npt.NDArray[np.float32]
    ) -> None:
        measured = self._measured
        span = slice(len(measured.digests), len(measured.digests) + len(images))
        flat = np.ascontiguousarray(images).reshape(len(images), -1)
        measured.digests += [hashlib.sha256(row.data).digest()[:16] for row in flat]
        values = flat.astype(np.float64)
        mean = values.mean(axis=1)
        variance = np.einsum("nd,nd->n", values, values) / values.shape[1] - mean * mean
        measured.blank[span] = (flat == flat[:, :1]).all(axis=1)
        deviation = np.where(measured.blank[span], 0, np.sqrt(np.maximum(variance, 0)))
        measured.brightness[span], measured.contrast[span] = mean, deviation
        measured.features[span] = neighbours.standardized(flat, mean, deviation) @ projection

    def report(self) -> Report:
        """What is in the data set, once all splits were written."""
        images, measured = self._images, self._measured
        copies = _copies(images, measured.digests)
        near = _near(images, measured, copies)
        unusual = _unusual(measured)
        by_class = _by_class(images)
        metrics = {
            **{f"{name}_images": len(part.labels) for name, part in images.parts.items()},
            "classes": len(images.class_names),
            "tiny_classes": int((by_class[0] < TINY).sum()),
            "untrained_classes": int((by_class[0] == 0).sum()),
            "untested_classes": int((by_class[-1] == 0).sum()),
            "unreadable_files": len(self._unreadable),
            "blank_images": int(measured.blank.sum()),
            "unusual_images": len(unusual),
            "duplicates": sum(copies.within),
            **{
                f"leaked_{name}": len(copies.leaked[at])
                for at, name in enumerate(images.parts)
                if at
            },
            "conflicts": sum(_differ(images, group) for group in copies.groups),
            "near_duplicates": len(near),
        }
        tables = {
            "classes": _classes_table(images, by_class),
            "duplicates": _duplicates_table(images, copies),
            "near_duplicates": _near_table(images, near),
            "sizes": _sizes_table(images.parts),
            "splits": _splits_table(images, measured, copies),
            "unreadable": Table(("name", "class"), [list(row) for row in self._unreadable]),
            "unusual": _unusual_table(images, measured, unusual),
        }
        return Report(metrics, tables)


def _copies(images: _Images, digests: Sequence[bytes]) -> _Copies:
    """Which images are equal."""
    places: dict[bytes, list[int]] = {}
    for at, digest in enumerate(digests):
        places.setdefault(digest, []).append(at)
    groups = [np.array(group) for group in places.values() if len(group) > 1]
    within = [0] * len(images.parts)
    leaked: list[list[int]] = [[] for _ in images.parts]
    for group in groups:
        splits = images.split[group]
        for number in np.unique(splits).tolist():
            own = group[splits == number].tolist()
            within[number] += len(own) - 1
            leaked[number] += own if number > splits.min() else []
    return _Copies(groups, within, leaked)


def _near(images: _Images, measured: _Measured, copies: _Copies) -> list[neighbours.Pair]:
    """The held-out images that are nearly equal to a training image; no equal ones."""
    compared = ~measured.blank
    compared[[at for places in copies.leaked for at in places]] = False
    return neighbours.nearest(
        measured.features,
        np.flatnonzero(compared & (images.split > 0)),
        np.flatnonzero(compared & (images.split == 0)),
        images.take,
    )


def _differ(images: _Images, group: Indices) -> bool:
    """Whether equal images have different labels."""
    return bool(np.ptp(images.labels[group]))


def _unusual(measured: _Measured) -> list[tuple[int, str]]:
    """The images that are blank, or far out of the others' brightness or contrast, and why."""
    reasons = {int(at): "blank" for at in np.flatnonzero(measured.blank)}
    for measures, low, high in (
        (measured.brightness, "dark", "bright"),
        (measured.contrast, "low contrast", "high contrast"),
    ):
        values = measures.round(6)  # as printed: equal ones do not differ by how sums were rounded
        lower, upper = np.percentile(values, (25, 75))
        reach = _FAR_OUT * (upper - lower)
        for at in np.flatnonzero((values < lower - reach) | (values > upper + reach)).tolist():
            reasons.setdefault(at, low if values[at] < lower else high)
    return sorted(reasons.items())


def _by_class(images: _Images) -> npt.NDArray[np.int64]:
    """How many images there are of each class in each split, splits x classes."""
    shape = len(images.parts), len(images.class_names)
    cells = np.bincount(images.split * shape[1] + images.labels, minlength=math.prod(shape))
    return cells.reshape(shape).astype(np.int64)


def _classes_table(images: _Images, by_class: npt.NDArray[np.int64]) -> Table:
    rows = zip(range(len(images.class_names)), images.class_names, *by_class.tolist(), strict=True)
    return Table(("label", "class", *images.parts), [list(row) for row in rows])


def _duplicates_table(images: _Images, copies: _Copies) -> Table:
    """An image a row, group by group: conflicts first, then leaks, then the others."""
    ranked = []
    for group in copies.groups:
        differ, leaked = _differ(images, group), bool(np.ptp(images.split[group]))
        ranked.append((not differ, not leaked, group.tolist()))
    rows = [
        [number, *images.cells(at), int(not same), int(not apart)]
        for number, (same, apart, group) in enumerate(sorted(ranked))
        for at in group
    ]
    return Table(("group", *_IMAGE, "labels_differ", "across_splits"), rows)


def _near_table(images: _Images, near: Sequence[neighbours.Pair]) -> Table:
    header = ("correlation", *_IMAGE, *(f"training_{column}" for column in _IMAGE[1:]))
    rows = [
        [f"{correlation:.4f}", *images.cells(at), *images.cells(other)[1:]]
        for correlation, at, other in near
    ]
    return Table(header, rows)


def _sizes_table(parts: Mapping[str, Part]) -> Table:
    """How many images of each size there are in each split, the most frequent first."""
    counts: dict[tuple[int, int], list[int]] = {}
    for number, part in enumerate(parts.values()):
        unique, repeated = np.unique(part.sizes, axis=0, return_counts=True)
        for size, count in zip(unique.tolist(), repeated.tolist(), strict=True):
            counts.setdefault(tuple(size), [0] * len(parts))[number] += count
    ranked = sorted(counts.items(), key=lambda item: (-sum(item[1]), item[0]))
    return Table(("height", "width", *parts), [[*size, *row] for size, row in ranked])


def _splits_table(images: _Images, measured: _Measured, copies: _Copies) -> Table:
    header = ("split", "images", "brightness", "brightness_spread", "contrast")
    rows: list[list[object]] = []
    for number, name in enumerate(images.parts):
        own = images.split == number
        light, contrast = measured.brightness[own], measured.contrast[own]
        values = (light.mean(), light.std(), contrast.mean()) if own.any() else ()
        cells = [f"{value:.6f}" for value in values] or [""] * 3
        blank = int(measured.blank[own].sum())
        leaked = len(copies.leaked[number])
        rows.append([name, int(own.sum()), *cells, blank, copies.within[number], leaked])
    return Table((*header, "blank", "duplicates", "leaked"), rows)


def _unusual_table(
    images: _Images, measured: _Measured, unusual: Sequence[tuple[int, str]]
) -> Table:
    rows = [
        [*images.cells(at), f"{measured.brightness[at]:.6f}", f"{measured.contrast[at]:.6f}", why]
        for at, why in unusual
    ]
    return Table((*_IMAGE, "brightness", "contrast", "why"), rows)
