"""How far an export answers as the model does, on every image of the test split."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stages.lib import stored_images

Images = npt.NDArray[np.float32]
TOLERANCE = 1e-4  # of a probability; float32 sums of another order differ by some 1e-7
_BATCH = 1000


@dataclass(frozen=True)
class Agreement:
    """The comparison of an export with the model.

    Attributes:
        images: How many were compared.
        labels: How many got another label, the model's own two probabilities not being equal.
        difference: The largest one of a probability; NaN if one is not finite.
    """

    images: int
    labels: int
    difference: float

    def problem(self) -> str | None:
        """What was expected and what was found, or None where the export agrees."""
        if self.labels == 0 and self.difference <= TOLERANCE:
            return None
        return (
            f"the model's labels and probabilities within {TOLERANCE:g}, found {self.labels} of "
            f"{self.images} labels that differ and probabilities that do by {self.difference:.2g}"
        )

    def words(self) -> str:
        """The agreement in words."""
        return (
            f"all {self.images:,} labels as the model's, probabilities within {self.difference:.1e}"
        )


def compare(
    model: Callable[[Images], npt.NDArray[np.float64]],
    export: Callable[[Images], npt.NDArray[np.float32]],
    images: stored_images.Images,
) -> Agreement:
    """The agreement of two functions of images (N x H x W or N x H x W x C) to N x K."""
    differences, labels = [], 0
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH]
        expected, answered = model(batch), export(batch).astype(np.float64)
        differences.append(np.abs(expected - answered).max())
        rows = np.arange(len(batch))
        margin = expected.max(axis=1) - expected[rows, answered.argmax(axis=1)]
        labels += int((margin > TOLERANCE).sum())
    return Agreement(len(images), labels, float(np.max(differences)))
