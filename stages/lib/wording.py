"""Numbers in sentences."""

import math


def counted(count: int, noun: str) -> str:
    """A number with its noun: ``1 image``, ``1,000 images``, ``2 classes``."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def percent(proportion: float, digits: int = 2) -> str:
    """A proportion as ``97.79 %``, its parts never broken apart; NaN, of no images, is a dash."""
    if math.isnan(proportion):
        return "–"
    return f"{100 * proportion:.{digits}f}\N{NO-BREAK SPACE}%"
