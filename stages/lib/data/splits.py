"""A share of the images held out, class by class."""

from typing import Any

import numpy as np
import numpy.typing as npt


def hold_out(
    labels: npt.NDArray[Any], fraction: float, seed: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Splits the training set by class.

    Args:
        labels: N integers.
        fraction: The share of every class that is held out, rounded to whole images.
        seed: Draws which ones.

    Returns:
        The indices to train on and those held out, both ascending.
    """
    random = np.random.default_rng(seed)
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        held_out[random.permutation(of_class)[: round(fraction * len(of_class))]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
