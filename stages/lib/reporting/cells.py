"""Columns of cells, by what they hold."""

import math
from collections.abc import Iterable

from stages.lib.reporting.page import Cell
from stages.lib.wording import percent


def texts(values: Iterable[object]) -> list[Cell]:
    """Cells of anything, as text."""
    return [Cell(str(value)) for value in values]


def integers(values: Iterable[float]) -> list[Cell]:
    """Cells of whole numbers."""
    return [Cell(f"{int(value):,}", value) for value in values]


def losses(values: Iterable[float]) -> list[Cell]:
    """Cells of losses in nats."""
    return [Cell(f"{value:.4f}", value) for value in values]


def reals(values: Iterable[float]) -> list[Cell]:
    """Cells of numbers, three digits of each."""
    return [Cell(f"{value:.3g}", value) for value in values]


def proportions(values: Iterable[float]) -> list[Cell]:
    """Cells of proportions; NaN, of no images, is a dash and sorts first."""
    return [Cell(percent(value), -1 if math.isnan(value) else value) for value in values]
