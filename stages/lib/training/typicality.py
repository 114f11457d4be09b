"""How much an image resembles the training images: by a few simple properties of its pixels.

It tells a photograph, noise, an inverted or an empty image from images as the model knows them. It
does not tell an image of an unknown class that is drawn alike.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from stages.lib import stored_images
from stages.lib.model_file import Typical
from stages.lib.stored_images import Images

Floats = npt.NDArray[np.float64]

_MOST = 10_000  # training images that are looked at, evenly spaced
_PIECE = 1000  # images at once, of small ones
_SMALLEST = 1e-3  # a standard deviation below this is taken for this one: 1/4 of a grey level
_QUANTILES = np.linspace(0, 1, 21)


def names(input_shape: Sequence[int]) -> list[str]:
    """The names of the F properties of images (H, W or H, W, C)."""
    colour = ["colourfulness"] if len(input_shape) == 3 and input_shape[2] > 1 else []
    return ["brightness", "contrast", "edge brightness", "roughness", *colour]


def properties(images: Images, step: int = 1) -> Floats:
    """The properties (N x F) of every ``step``th image (of N x H x W or N x H x W x C, 0 to 1).

    Brightness and contrast are the mean and the standard deviation of the pixels, edge brightness
    is the mean of the outermost ones, roughness the mean difference of neighbours, colourfulness
    the mean difference of a pixel's brightest and darkest channel.
    """
    width = step * stored_images.at_once(images.shape[1:], _PIECE)
    starts = range(0, len(images), width)
    parts = [_properties(images[start : start + width : step]) for start in starts]
    return np.concatenate([np.empty((0, len(names(images.shape[1:])))), *parts])


def describe(images: Images) -> Typical:
    """What training images (N x H x W or N x H x W x C, N of 1 or more) have in common."""
    values = properties(images, max(1, -(-len(images) // _MOST)))
    mean = _rounded(values.mean(axis=0))
    centred = values - np.array(mean)
    covariance = centred.T @ centred / len(values) + np.eye(len(mean)) * _SMALLEST**2
    precision = [_rounded(row) for row in np.linalg.inv(covariance)]
    found = _distances(values, np.array(mean), np.array(precision))  # as users will find them
    return Typical(
        properties=names(images.shape[1:]),
        lowest=_rounded(values.min(axis=0)),
        highest=_rounded(values.max(axis=0)),
        mean=mean,
        precision=precision,
        distances=_rounded(np.quantile(found, _QUANTILES)),
    )


def typicality(values: Floats, typical: Typical) -> Floats:
    """The fraction of training images (N values) that are at least as far from their mean.

    Args:
        values: As ``properties`` gives them, N x F.
        typical: Of the training images.
    """
    found = distances(values, typical)
    farther: Floats = 1 - np.interp(found, typical.distances, _QUANTILES)
    return np.where(found <= typical.distances[0], 1, farther)  # all may be equally far


def distances(values: Floats, typical: Typical) -> Floats:
    """How far images are (N) from the mean of the training images, in standard deviations.

    Args:
        values: As ``properties`` gives them, N x F.
        typical: Of the training images.

    Source: Mahalanobis, P. C. (1936). On the generalised distance in statistics. Proceedings of
    the National Institute of Sciences of India, 2(1), 49-55.
    """
    return _distances(values, np.array(typical.mean), np.array(typical.precision))


def difference(values: Sequence[float], typical: Typical) -> str:
    """In words, how an image (F values) differs from every training image; empty if it does not."""
    outside = [
        f"{name} {value:.2f}, there {low:.2f} to {high:.2f}"
        for name, value, low, high in zip(
            typical.properties, values, typical.lowest, typical.highest, strict=True
        )
        if not low - _SMALLEST <= value <= high + _SMALLEST
    ]
    if outside:
        return "; ".join(outside)
    farthest = typical.distances[-1] * (1 + 1e-4)  # it is rounded
    if distances(np.array([values]), typical)[0] <= farthest:
        return ""
    return f"{', '.join(typical.properties)}: an unusual combination"


def _properties(images: npt.NDArray[np.float32]) -> Floats:
    images = images.reshape(*images.shape[:3], -1)  # N x H x W x C
    flat = images.reshape(len(images), -1).astype(np.float64)
    edge = np.ones(images.shape[1:3], bool)
    edge[1:-1, 1:-1] = False
    steps = [np.abs(np.diff(images, axis=axis)) for axis in (1, 2)]
    total = sum(step.sum(axis=(1, 2, 3), dtype=np.float64) for step in steps)
    columns = [
        flat.mean(axis=1),
        flat.std(axis=1),
        images[:, edge].mean(axis=(1, 2), dtype=np.float64),
        total / max(1, sum(step[0].size for step in steps)),
    ]
    if images.shape[3] > 1:
        columns.append(np.ptp(images, axis=3).mean(axis=(1, 2), dtype=np.float64))
    return np.stack(columns, axis=1)


def _distances(values: Floats, mean: Floats, precision: Floats) -> Floats:
    """The distances (N) from the mean (F), in standard deviations."""
    centred = values - mean
    squares: Floats = np.einsum("nf,fg,ng->n", centred, precision, centred)
    return np.sqrt(np.maximum(squares, 0))


def _rounded(values: Floats) -> list[float]:
    """Six digits each, which hold on every machine."""
    return [float(f"{value:.6g}") for value in values.tolist()]
