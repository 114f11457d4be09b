"""Learning rates over a training."""

import numpy as np
import numpy.typing as npt


def learning_rates(
    peak: float, schedule: str, warmup: float, steps: int
) -> npt.NDArray[np.float32]:
    """The learning rate of every step.

    Args:
        peak: The highest one.
        schedule: After the warm-up it stays (``constant``), or falls to 0 in proportion
            (``linear``) or along half a cosine wave (``cosine``; Loshchilov and Hutter, 2017).
        warmup: The fraction of the steps over which it rises in proportion to the step.
        steps: The number of steps of the whole training.

    Returns:
        float32, one a step.
    """
    step = np.arange(steps)
    rising = round(warmup * steps)
    done = np.clip((step - rising) / max(steps - rising, 1), 0, 1)
    after = {
        "constant": np.ones(steps),
        "linear": 1 - done,
        "cosine": (1 + np.cos(np.pi * done)) / 2,
    }[schedule]
    return (peak * np.where(step < rising, (step + 1) / max(rising, 1), after)).astype(np.float32)
