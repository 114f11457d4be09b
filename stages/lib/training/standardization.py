"""Images of mean 0 and standard deviation 1 by channel, made so inside the model."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stages.lib import stored_images
from stages.lib.stored_images import Images
from stages.lib.training import naming

if TYPE_CHECKING:
    import keras

_CHUNK = 1000  # images made float64 at once, of small ones
_CONSTANT = 1e-6  # below any step between two pixel values


def standardized(
    model: "keras.Model", mean: npt.NDArray[np.float64], deviation: npt.NDArray[np.float64]
) -> "keras.Model":
    """The model behind a layer that subtracts the images' mean and divides by their deviation.

    It is a Rescaling and no Normalization layer: its constants are in the model's configuration,
    not in its weights, and every format that the model is exported to knows it.

    Args:
        model: N x H x W or N x H x W x C to N x K.
        mean: Of each channel of the training split, as ``moments`` gives it.
        deviation: The same.
    """
    import keras

    scale, offset = (1 / deviation).tolist(), (-mean / deviation).tolist()
    if len(scale) == 1:
        scale, offset = scale[0], offset[0]
    inputs = keras.Input(model.input_shape[1:])
    name = naming.free("standardize", model)
    rescaled = keras.layers.Rescaling(scale, offset, name=name)(inputs)
    return keras.Model(inputs, model(rescaled), name=model.name)


def moments(
    images: Images,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The mean and the standard deviation of each channel, 1 for one that is constant.

    They are rounded to six digits, so that another machine's order of summation gives them too.

    Args:
        images: float32, N x H x W (one channel) or N x H x W x C, 0 to 1.
    """
    channels = images.shape[3] if images.ndim == 4 else 1
    sums, squares = np.zeros(channels), np.zeros(channels)
    chunk = stored_images.at_once(images.shape[1:], _CHUNK)
    for start in range(0, len(images), chunk):
        pixels = images[start : start + chunk].reshape(-1, channels).astype(np.float64)
        sums += pixels.sum(axis=0)
        squares += np.square(pixels).sum(axis=0)
    count = images.size / channels
    mean = sums / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    deviation[deviation < _CONSTANT] = 1
    return _rounded(mean), _rounded(deviation)


def _rounded(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.array([float(f"{value:.6g}") for value in values])
