"""Which images are held out: a fraction of every class, or by what the image itself is."""

import hashlib
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


def draws(digest: str, seed: int) -> tuple[int, int]:
    """Two numbers from 0 to below 2**64 that an image's digest and the seed determine.

    An image is a test image where the first is below a fraction of 2**64, and of the others one is
    held out for validation where the second is. Nothing else enters: images that are added move
    none of those before, and copies of one image are in one split.
    """
    text = hashlib.blake2b(digest.encode(), digest_size=16, key=str(seed).encode()).digest()
    return int.from_bytes(text[:8], "big"), int.from_bytes(text[8:], "big")
