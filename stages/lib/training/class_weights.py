"""Weights that make rare classes count as much as frequent ones."""

from typing import Any

import numpy as np
import numpy.typing as npt


def balanced(labels: npt.NDArray[np.integer[Any]], num_classes: int) -> npt.NDArray[np.float32]:
    """A weight for each class, in inverse proportion to its images, of mean 1 over the images.

    The loss of a step is the mean of its weighted losses, not divided by the weights. So their mean
    has to be 1, or they would change the learning rate. A class without images has the weight 0.

    Args:
        labels: N integers, 0 to K - 1.
        num_classes: K.
    """
    images = np.bincount(labels, minlength=num_classes)
    present = images > 0
    weights = np.zeros(num_classes)
    weights[present] = len(labels) / (present.sum() * images[present])
    return weights.astype(np.float32)
