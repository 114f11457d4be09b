"""What normalize counted and what evaluate doubts, read back and checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from stages.lib.core import files
from stages.lib.reporting import stage_outputs
from stages.lib.reporting.stage_outputs import Count, unexpected

SPLITS = ("train", "validation", "test")

Split = Literal["train", "validation", "test"]
Flag = Annotated[int, msgspec.Meta(ge=0, le=1)]
Proportion = Annotated[float, msgspec.Meta(ge=0, le=1)]
Difference = Annotated[float, msgspec.Meta(ge=-1, le=1)]
_ROUNDING = 2e-6  # of a difference of two numbers of six digits


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """An image as tables name it.

    Attributes:
        split: Its split.
        index: In its split.
        label: That it is given.
        name: Of its file, if any.
    """

    split: Split
    index: Count
    label: Count
    name: str = ""


class Duplicate(Place, frozen=True, kw_only=True):
    """One of several equal images.

    Attributes:
        group: The number that all of them have.
        labels_differ: Whether their labels differ, 0 or 1.
        across_splits: Whether they are of more than one split, 0 or 1.
    """

    group: Count
    labels_differ: Flag
    across_splits: Flag


class Near(Place, frozen=True, kw_only=True):
    """A held-out image and the training image that is nearly equal to it.

    Attributes:
        correlation: Of their pixels.
        training_index: Of the training image.
        training_label: Of the training image.
        training_name: Of its file, if any.
    """

    correlation: Difference
    training_index: Count
    training_label: Count
    training_name: str = ""


class Unusual(Place, frozen=True, kw_only=True):
    """An image out of the ordinary.

    Attributes:
        brightness: Mean of its values.
        contrast: Standard deviation of its values.
        why: What is out of the ordinary.
    """

    brightness: Proportion
    contrast: Proportion
    why: str


class Look(Place, frozen=True, kw_only=True):
    """An image whose label is worth a second look.

    Attributes:
        other: The likeliest other label.
        probability: Of its label.
        other_probability: Of the other one.
        margin: The difference of the two.
    """

    other: Count
    probability: Proportion
    other_probability: Proportion
    margin: Difference


class Size(msgspec.Struct, frozen=True):
    """A size that images had before scaling, and how many of each split had it."""

    height: Count
    width: Count
    train: Count
    validation: Count
    test: Count


class SplitRow(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of a split; an empty one has no brightness."""

    split: Split
    images: Count
    brightness: Proportion | None = None
    brightness_spread: Proportion | None = None
    contrast: Proportion | None = None
    blank: Count
    duplicates: Count
    leaked: Count


class ClassRow(msgspec.Struct, frozen=True):
    """How many images of a class each split holds."""

    label: Count
    train: Count
    validation: Count
    test: Count


@dataclass(frozen=True)
class Data:
    """What is in the data set.

    Attributes:
        metrics: Counts by name.
        classes: A row a class.
        splits: A row a split.
        sizes: The most frequent first.
        duplicates: Group by group, conflicts and leaks first.
        near: The most similar first.
        unusual: In the order of the splits.
        looks: Test images, then validation images, the most doubtful first.
    """

    metrics: Mapping[str, int]
    classes: Sequence[ClassRow]
    splits: Sequence[SplitRow]
    sizes: Sequence[Size]
    duplicates: Sequence[Duplicate]
    near: Sequence[Near]
    unusual: Sequence[Unusual]
    looks: Sequence[Look]

    @property
    def shown(self) -> Sequence[Look]:
        """The labels worth a second look that the figure shows, the most doubtful first."""
        return sorted(self.looks, key=lambda look: look.margin)[:16]


_METRICS = (
    *(f"{split}_images" for split in SPLITS),
    *("classes", "tiny_classes", "untrained_classes", "untested_classes", "unreadable_files"),
    *("blank_images", "unusual_images", "duplicates"),
    *("leaked_validation", "leaked_test", "conflicts", "near_duplicates"),
)
P = TypeVar("P", bound=Place)
T = TypeVar("T")
Labels = Mapping[str, npt.NDArray[np.int64]]


def read(folder: Path, looks: Path, labels: Labels, num_classes: int) -> Data:
    """What normalize wrote into ``folder``, and evaluate into ``looks``.

    Args:
        folder: Holds metrics.json and the tables.
        looks: Table of the labels worth a second look.
        labels: Of the held-out splits, by name.
        num_classes: K.

    Raises:
        UserError: A file is missing, damaged or about another data set.
    """
    path = folder / "metrics.json"
    content = stage_outputs.read_json(path, _METRICS)
    for name in _METRICS:
        stage_outputs.check_number(path, name, content[name], "images")
    data = Data(
        metrics={name: int(content[name]) for name in _METRICS},
        classes=_rows(folder / "tables/classes.csv", ClassRow),
        splits=_rows(folder / "tables/splits.csv", SplitRow),
        sizes=_rows(folder / "tables/sizes.csv", Size),
        duplicates=_places(folder / "tables/duplicates.csv", Duplicate, num_classes),
        near=_places(folder / "tables/near_duplicates.csv", Near, num_classes),
        unusual=_places(folder / "tables/unusual.csv", Unusual, num_classes),
        looks=_places(looks, Look, num_classes),
    )
    _check_counts(folder, data, num_classes)
    _check_looks(looks, data.looks, labels)
    return data


def _rows(path: Path, schema: type[T]) -> list[T]:
    """The rows of a table; cells that are empty are left out."""
    rows = files.read_csv(path)
    for at, row in enumerate(rows, 1):
        if None in row or None in row.values():  # what csv says to too many and to too few
            columns = sum(name is not None for name in row)
            raise unexpected(path, f"{columns} cells in row {at}", "another number")
    try:
        filled = [{name: cell for name, cell in row.items() if cell} for row in rows]
        return msgspec.convert(filled, list[schema], strict=False)  # type: ignore[valid-type]
    except msgspec.ValidationError as error:
        raise unexpected(path, "rows as an earlier stage writes them", str(error)) from None


def _places(path: Path, schema: type[P], num_classes: int) -> list[P]:
    rows = _rows(path, schema)
    for row in rows:
        for name in ("label", "training_label", "other"):
            if getattr(row, name, 0) >= num_classes:
                raise unexpected(path, f"a {name} from 0 to {num_classes - 1}", getattr(row, name))
    return rows


def _check_counts(folder: Path, data: Data, num_classes: int) -> None:
    """Compares what several files say of the same."""
    metrics = data.metrics
    if [row.label for row in data.classes] != list(range(num_classes)):
        raise unexpected(
            folder / "tables/classes.csv", f"the labels 0 to {num_classes - 1}", "others"
        )
    if [row.split for row in data.splits] != list(SPLITS):
        raise unexpected(folder / "tables/splits.csv", f"the splits {', '.join(SPLITS)}", "others")
    if not data.sizes:
        raise unexpected(folder / "tables/sizes.csv", "at least one row", "none")
    groups = {row.group: row.labels_differ for row in data.duplicates}
    leaked: dict[str, int] = {row.split: row.leaked for row in data.splits}
    counts = {
        "tables/duplicates.csv": {"conflicts": sum(groups.values())},
        "tables/near_duplicates.csv": {"near_duplicates": len(data.near)},
        "tables/unusual.csv": {"unusual_images": len(data.unusual)},
        "tables/splits.csv": {
            **{f"{row.split}_images": row.images for row in data.splits},
            "blank_images": sum(row.blank for row in data.splits),
            "duplicates": sum(row.duplicates for row in data.splits),
            **{f"leaked_{split}": leaked[split] for split in SPLITS[1:]},
        },
        "tables/classes.csv": {
            **_totals(data.classes),
            "untrained_classes": sum(not row.train for row in data.classes),
            "untested_classes": sum(not row.test for row in data.classes),
        },
        "tables/sizes.csv": _totals(data.sizes),
    }
    for name, values in counts.items():
        for metric, value in values.items():
            if value != metrics[metric]:
                expected = f"{metric} {metrics[metric]} as in {folder.as_posix()}/metrics.json"
                raise unexpected(folder / name, expected, value)


def _totals(rows: Sequence[ClassRow] | Sequence[Size]) -> dict[str, int]:
    return {f"{split}_images": sum(getattr(row, split) for row in rows) for split in SPLITS}


def _check_looks(path: Path, looks: Sequence[Look], labels: Labels) -> None:
    """Compares the labels to look at with those of the splits, and their numbers."""
    if not looks:
        raise unexpected(path, "at least one row", "none")
    before: dict[str, float] = {}
    for row in looks:
        own = labels.get(row.split, np.empty(0, np.int64))
        if row.index >= len(own) or own[row.index] != row.label or row.other == row.label:
            image = f"image {row.index} of the {row.split} split"
            raise unexpected(path, "images, their labels and another", f"another label for {image}")
        margin = row.probability - row.other_probability
        if abs(row.margin - margin) > _ROUNDING or row.margin < before.get(row.split, -1):
            raise unexpected(path, f"a margin of {margin:.6f}, ascending", f"{row.margin:.6f}")
        before[row.split] = row.margin
