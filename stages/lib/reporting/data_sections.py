"""What the report page says of the data set and of its labels."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from stages.lib.flaws import flaws
from stages.lib.reporting import cells
from stages.lib.reporting.data_tables import SPLITS, Data, Place, Size
from stages.lib.reporting.page import Cell, Table
from stages.lib.wording import counted

Names = Callable[[Iterable[int]], list[Cell]]  # class names as the page shows them, by label

TINY = 10  # training images of a class, fewer of which are said
_ROWS = 50  # of a table on the page; the file holds them all
_MANY = 20  # classes, beyond which their table is folded


def values(names: Names, data: Data) -> dict[str, object]:
    """The values that the template names.

    Args:
        names: Gives the cells of class names for labels.
        data: What normalize counted and evaluate doubts.
    """
    return {
        "warnings": flaws(data.metrics),
        "data_splits": _splits(data),
        "data_sizes": _sizes(data.sizes),
        "data_classes": _classes(names, data),
        "data_classes_folded": len(data.classes) > _MANY,
        "tiny_classes": _tiny(names, data),
        "kinds": [_duplicates(names, data), _near(names, data), _unusual(names, data)],
        "rows_shown": _ROWS,
        "looks": _looks(names, data),
        "looks_shown": f"{len(data.shown):,}",
        "looks_against": f"{sum(row.margin < 0 for row in data.looks):,}",
        "looks_count": counted(len(data.looks), "image"),
    }


@dataclass(frozen=True)
class Kind:
    """Images of one kind.

    Attributes:
        count: How many there are.
        sentence: That says so.
        table: The first of them.
        file: The name of the table that holds them all.
    """

    count: int
    sentence: str
    table: Table
    file: str


def _kind(count: int, noun: str, what: str, table: Table, file: str) -> Kind:
    verb = "is" if count <= 1 else "are"
    return Kind(
        count, f"{counted(count, noun) if count else f'No {noun}'} {verb} {what}.", table, file
    )


def _places(names: Names, rows: Sequence[Place]) -> dict[str, list[Cell]]:
    """Which image each row is of."""
    return {
        "Split": cells.texts(row.split for row in rows),
        "Image": cells.integers(row.index for row in rows),
        "Class": names(row.label for row in rows),
    }


def _files(heading: str, files: Sequence[str]) -> dict[str, list[Cell]]:
    """A column of file names, where there are any; the last one, as they may be long."""
    return {heading: cells.texts(files)} if any(files) else {}


def _splits(data: Data) -> Table:
    rows = data.splits

    def measured(name: str) -> list[Cell]:
        numbers = [getattr(row, name) for row in rows]
        return [Cell("–", -1) if n is None else Cell(f"{n:.3f}", n) for n in numbers]

    columns = {
        "Split": cells.texts(row.split for row in rows),
        "Images": cells.integers(row.images for row in rows),
        "Mean brightness": measured("brightness"),
        "Its spread": measured("brightness_spread"),
        "Mean contrast": measured("contrast"),
        "Blank": cells.integers(row.blank for row in rows),
        "Duplicates": cells.integers(row.duplicates for row in rows),
        "In an earlier split": cells.integers(row.leaked for row in rows),
    }
    return Table("Images by split", columns, sortable=False)


def _sizes(sizes: Sequence[Size]) -> str:
    """The sizes that images had, in words."""
    first = f"{sizes[0].height:,} × {sizes[0].width:,}"
    if len(sizes) == 1:
        return f"All images are of {first} pixels."
    heights, widths = [size.height for size in sizes], [size.width for size in sizes]
    return (
        f"Before scaling, images were of {len(sizes):,} sizes, most often {first} pixels (height × "
        f"width): heights from {min(heights):,} to {max(heights):,}, widths from {min(widths):,} "
        f"to {max(widths):,}."
    )


def _classes(names: Names, data: Data) -> Table:
    columns = {
        "Class": names(row.label for row in data.classes),
        "Label": cells.integers(row.label for row in data.classes),
    }
    for split in SPLITS:
        columns[split.capitalize()] = cells.integers(getattr(row, split) for row in data.classes)
    return Table("Images by class and split", columns)


def _tiny(names: Names, data: Data) -> list[tuple[Cell, int]]:
    """The classes of few training images, and how many each has."""
    tiny = [row for row in data.classes if row.train < TINY]
    return list(zip(names(row.label for row in tiny), (row.train for row in tiny), strict=True))


def _duplicates(names: Names, data: Data) -> Kind:
    rows = data.duplicates[:_ROWS]
    words = {(1, 1): "leak, conflict", (1, 0): "conflict", (0, 1): "leak", (0, 0): "duplicate"}
    columns = {
        "Group": cells.integers(row.group for row in rows),
        "Kind": cells.texts(words[row.labels_differ, row.across_splits] for row in rows),
        **_places(names, rows),
        **_files("File", [row.name for row in rows]),
    }
    table = Table("Images that are equal in every pixel", columns)
    what = "equal in every pixel to another one"
    return _kind(len(data.duplicates), "image", what, table, "tables/duplicates.csv")


def _near(names: Names, data: Data) -> Kind:
    rows = data.near[:_ROWS]
    columns = {
        "Correlation": [Cell(f"{row.correlation:.4f}", row.correlation) for row in rows],
        **_places(names, rows),
        "Training image": cells.integers(row.training_index for row in rows),
        "Its class": names(row.training_label for row in rows),
        **_files("File", [row.name for row in rows]),
        **_files("File of the training image", [row.training_name for row in rows]),
    }
    table = Table("Held-out images nearly equal to a training image", columns)
    what = "nearly equal to a training image, that is, correlated by 0.99 or more in its pixels"
    return _kind(len(data.near), "held-out image", what, table, "tables/near_duplicates.csv")


def _unusual(names: Names, data: Data) -> Kind:
    rows = data.unusual[:_ROWS]
    columns = {
        **_places(names, rows),
        "Brightness": cells.reals(row.brightness for row in rows),
        "Contrast": cells.reals(row.contrast for row in rows),
        "Why": cells.texts(row.why for row in rows),
        **_files("File", [row.name for row in rows]),
    }
    table = Table("Images out of the ordinary", columns)
    what = "blank, or far from the others in brightness or contrast"
    return _kind(len(data.unusual), "image", what, table, "tables/unusual.csv")


def _looks(names: Names, data: Data) -> Table:
    rows = data.looks
    columns = {
        **_places(names, rows),
        "Likeliest other": names(row.other for row in rows),
        "Probability of the label": cells.proportions(row.probability for row in rows),
        "Of the other": cells.proportions(row.other_probability for row in rows),
        "Margin": [Cell(f"{row.margin:.4f}", row.margin) for row in rows],
        **_files("File", [row.name for row in rows]),
    }
    return Table("Labels worth a second look", columns)
