"""Temperature scaling: the one number that the logits are divided by, fitted to held-out images.

It changes no predicted class, only how sure the model says it is. The model that comes out divides
its logits itself, so that nobody who uses or exports it has to know.

Source: Guo, C., Pleiss, G., Sun, Y. and Weinberger, K. Q. (2017). On Calibration of Modern Neural
Networks. ICML.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stages.lib.stored_images import Images
from stages.lib.training import loop, naming

if TYPE_CHECKING:
    import keras

Floats = npt.NDArray[np.float64]
LIMIT = 10.0  # where every held-out image is correct, the loss falls with T for ever
_STEPS = 60  # each halves the interval


def fit(logits: Floats, labels: npt.NDArray[np.int64]) -> float:
    """The temperature, 1 / LIMIT to LIMIT, of least cross-entropy for logits (N x K, N labels).

    The loss is convex in 1 / T, so that the root of its derivative is found by bisection.
    """
    low, high = 1 / LIMIT, LIMIT
    chosen = logits[np.arange(len(labels)), labels]
    for _ in range(_STEPS):
        middle = (low + high) / 2
        mean = (_softmax(logits * middle) * logits).sum(axis=1)
        if (mean - chosen).mean() < 0:  # the loss still falls
            low = middle
        else:
            high = middle
    return float(f"{2 / (low + high):.6g}")


def interval(logits: Floats, temperature: float) -> tuple[float, float]:
    """The 95 % interval of a temperature that was fitted to logits (N x K), within the same limits.

    Its width is that of the likelihood: the Fisher information about 1 / T is the sum over images
    of the variance of their logits under their probabilities. Few images, or such as are all
    correct, hold little of it.
    """
    probabilities = _softmax(logits / temperature)
    mean = (probabilities * logits).sum(axis=1, keepdims=True)
    information = float((probabilities * (logits - mean) ** 2).sum())
    spread = 1.959963984540054 / math.sqrt(max(information, 1e-300))
    lowest, highest = 1 / (1 / temperature + spread), 1 / max(1 / temperature - spread, 1 / LIMIT)
    return max(lowest, 1 / LIMIT), min(highest, LIMIT)


def loss(logits: Floats, labels: npt.NDArray[np.int64]) -> float:
    """The mean cross-entropy in nats of logits (N x K, N labels)."""
    return float(-np.log(_softmax(logits)[np.arange(len(labels)), labels] + 1e-300).mean())


def calibrated(
    model: "keras.Model",
    images: Images,
    labels: npt.NDArray[np.int64],
) -> tuple["keras.Model", dict[str, float]]:
    """The model with logits divided by the temperature, and what it did, by name.

    Args:
        model: N x H x W or N x H x W x C to N x K logits.
        images: Held-out ones, one or more.
        labels: Of them.

    Returns:
        The model, and the temperature with its interval and the loss of the held-out images before
        and after.
    """
    import keras

    size = loop.inference_batch(images.shape[1:])
    starts = range(0, len(labels), size)
    parts = [model(images[at : at + size], training=False) for at in starts]
    logits = np.concatenate([np.asarray(part, np.float64) for part in parts])
    temperature = fit(logits, labels)
    low, high = interval(logits, temperature)
    divide = keras.layers.Rescaling(1 / temperature, name=naming.free("temperature", model))
    result = naming.ended_by(divide, model)
    return result, {
        "temperature": temperature,
        "temperature_low": float(f"{low:.6g}"),
        "temperature_high": float(f"{high:.6g}"),
        "uncalibrated_val_loss": round(loss(logits, labels), 6),
        "calibrated_val_loss": round(loss(logits / temperature, labels), 6),
    }


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Floats = powers / powers.sum(axis=1, keepdims=True)
    return probabilities
