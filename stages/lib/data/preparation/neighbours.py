"""Nearly equal images: candidates by a few features, each checked in full.

Two images are compared by the correlation r of their pixels, so that a brighter copy counts as a
copy. Take the mean from an image and scale the rest to length 1: then the squared distance of two
images is 2 (1 - r). Features are sums over the cells of a grid, scaled to be a projection, along
the first principal axes. A projection makes no distance longer: what lies apart by its features
does so in full, and no pair is missed by leaving it out.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Features = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]
Images = npt.NDArray[np.float32]
Pair = tuple[float, int, int]  # correlation, held-out image, training image

LIMIT = 0.99  # correlation of pixels from which on two images are nearly equal
_SQUARED = 2 * (1 - LIMIT) + 1e-4  # the distance that goes with it, and room for float32
_GRID = 10  # cells along a side
_FEATURES = 32
_LEAF = 256  # held-out images that are compared at once
_CANDIDATES = 16  # training images that one held-out image is compared with in full
_VALUES = 1 << 21  # pixel values of the images that the axes are taken from
_AT_ONCE = 1 << 18  # pixel values of pairs that are compared in one step
_KEPT = 1 << 26  # pixel values that are in memory at once to be compared in full


def projection(images: Images) -> Features:
    """The matrix that turns standardized images into features, D x F.

    Args:
        images: Of which some at most are used, n x H x W or n x H x W x C.
    """
    sample = images[: max(32, _VALUES // math.prod(images.shape[1:]))]
    count, height, width = sample.shape[:3]
    raw = sample.reshape(count, -1)
    mean = raw.mean(axis=1, dtype=np.float64)
    values = standardized(raw, mean, raw.std(axis=1, dtype=np.float64))
    rows, columns = _starts(height), _starts(width)
    cells = values.reshape(count, height, width, -1).sum(axis=3)
    cells = np.add.reduceat(np.add.reduceat(cells, rows, axis=1), columns, axis=2)
    row_of = np.searchsorted(rows, np.arange(height), side="right") - 1
    column_of = np.searchsorted(columns, np.arange(width), side="right") - 1
    channels = values.shape[1] // (height * width)
    cell_of = np.repeat((row_of[:, None] * len(columns) + column_of).ravel(), channels)
    scale = 1 / np.sqrt(np.bincount(cell_of))
    scaled = cells.reshape(count, -1) * scale
    _, axes = np.linalg.eigh(scaled.T @ scaled)  # by ascending variance
    matrix = (axes[:, ::-1][:, :_FEATURES] * scale[:, None])[cell_of]
    return np.ascontiguousarray(matrix, np.float32)


def _starts(length: int) -> Indices:
    """Where each cell of a side begins."""
    cells = min(_GRID, length)
    return np.arange(cells) * length // cells


def standardized(values: Images, mean: Floats, deviation: Floats) -> Features:
    """Images (n x D) without their means, of length 1; a blank one is 0."""
    length = deviation * math.sqrt(values.shape[1])
    length[length == 0] = 1
    scaled: Features = values - mean.astype(np.float32)[:, None]
    scaled /= length.astype(np.float32)[:, None]
    return scaled


def nearest(
    features: Features,
    held_out: Indices,
    training: Indices,
    take: Callable[[Indices], Images],
) -> list[Pair]:
    """The held-out images that correlate by ``LIMIT`` with a training image, and which that is.

    Args:
        features: Of all images, N x F.
        held_out: Images that are not blank.
        training: Images that are not blank.
        take: Gives the images of some indices, which ascend, as an array of their own.

    Returns:
        The most similar first; of one held-out image the most similar training image alone.
    """
    half = (features**2).sum(axis=1, keepdims=True) / 2
    ones = np.ones_like(half)
    left = np.hstack([features, ones, -half])[held_out]  # left @ right.T is -distance^2 / 2
    right = np.hstack([features, -half, ones])[training]
    everywhere = np.arange(len(held_out)), np.arange(len(training))
    blocks = list(_candidates(left, right, *everywhere))
    if not blocks:
        return []
    candidates = np.concatenate(blocks)
    pairs = np.stack([held_out[candidates[:, 0]], training[candidates[:, 1]]], axis=1)
    correlations = _correlations(pairs, take)
    near = correlations >= LIMIT
    pairs, correlations = pairs[near], correlations[near]
    order = np.lexsort((pairs[:, 1], -correlations, pairs[:, 0]))
    pairs, correlations = pairs[order], correlations[order]
    _, best = np.unique(pairs[:, 0], return_index=True)
    ranked = best[np.argsort(-correlations[best], kind="stable")]
    return [(float(correlations[at]), int(pairs[at, 0]), int(pairs[at, 1])) for at in ranked]


def _candidates(
    left: Features, right: Features, rows: Indices, columns: Indices
) -> Iterator[Indices]:
    """The pairs whose features are near enough, P x 2.

    The rows are halved along the axis on which they differ most, and each half goes on with the
    columns that are within reach of it.
    """
    if not len(columns) or not len(rows):
        return
    if len(rows) <= _LEAF:
        yield from _near(left, right, rows, columns)
        return
    axis = int(np.ptp(left[rows, :-2], axis=0).argmax())
    values, others = left[rows, axis], right[columns, axis]
    reach = math.sqrt(_SQUARED)
    for half in np.array_split(np.argsort(values, kind="stable"), 2):
        low, high = values[half[0]] - reach, values[half[-1]] + reach
        within = columns[(others >= low) & (others <= high)]
        yield from _candidates(left, right, rows[half], within)


def _near(left: Features, right: Features, rows: Indices, columns: Indices) -> Iterator[Indices]:
    """The pairs of few rows and many columns, at most ``_CANDIDATES`` a row."""
    products = left[rows] @ right[columns].T
    near = products >= -_SQUARED / 2
    counts = np.count_nonzero(near, axis=1)
    for row in np.flatnonzero(counts):
        chosen = np.flatnonzero(near[row])
        if len(chosen) > _CANDIDATES:
            order = np.argsort(-products[row, chosen], kind="stable")
            chosen = chosen[order[:_CANDIDATES]]
        yield np.stack([np.full(len(chosen), rows[row]), columns[chosen]], axis=1)


def _correlations(pairs: Indices, take: Callable[[Indices], Images]) -> Floats:
    """The correlation of the pixels of each pair, P; of many pairs, some at a time."""
    size = take(pairs[0, :1]).size
    blocks = np.array_split(pairs, math.ceil(2 * len(pairs) * size / _KEPT))
    return np.concatenate([_block(block, take) for block in blocks])


def _block(pairs: Indices, take: Callable[[Indices], Images]) -> Floats:
    wanted, places = np.unique(pairs, return_inverse=True)
    places = places.reshape(pairs.shape)
    values = take(wanted).reshape(len(wanted), -1)
    values -= values.mean(axis=1, dtype=np.float64)[:, None].astype(np.float32)
    lengths = np.sqrt(_products(values, values))
    correlations = np.empty(len(pairs))
    step = max(1, _AT_ONCE // values.shape[1])
    for start in range(0, len(pairs), step):
        one, other = places[start : start + step].T
        products = _products(values[one], values[other])
        correlations[start : start + step] = products / (lengths[one] * lengths[other])
    return correlations


def _products(one: Images, other: Images) -> Floats:
    """The sum of the products of each row (n x D), with the digits of float64."""
    sums: Floats = np.einsum("nd,nd->n", one, other, dtype=np.float64)
    return sums
