"""A fraction of the images held out, class by class."""

from typing import Any

import numpy as np
import numpy.typing as npt


def hold_out(
    labels: npt.NDArray[Any], fraction: float, seed: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Splits the training set by class.

    Args:
        labels: N integers.
        fraction: Of every class is held out, rounded to whole images; one image of a class at
            least is left to train on.
        seed: Draws which ones.

    Returns:
        The indices to train on and those held out, both ascending.
    """
    random = np.random.default_rng(seed)
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        count = min(round(fraction * len(of_class)), len(of_class) - 1)
        held_out[random.permutation(of_class)[:count]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
