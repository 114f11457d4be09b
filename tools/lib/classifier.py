"""The trained model as tools use it: its probabilities, and what its file says of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.lib import architectures, metrics, model_file, runtime
from stages.lib.core import config
from stages.lib.core.errors import UserError

MODEL = Path("models/model.keras")
Images = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Classifier:
    """A trained model of K classes.

    Attributes:
        model: As it was saved.
        metadata: What its file says of it.
        logits: The outputs before the softmax (N x K) for images (N x H x W or N x H x W x C).
    """

    model: Any
    metadata: model_file.Metadata
    logits: Callable[[Images], npt.NDArray[np.float32]]

    def probabilities(self, images: Images) -> npt.NDArray[np.float64]:
        """The probabilities (N x K) as evaluate computes them."""
        return np.exp(metrics.log_softmax(self.logits(images)))


def load(path: Path, threads: int) -> Classifier:
    """The model of a file that train wrote, run with so many threads.

    Raises:
        UserError: The file is missing, damaged or another program's, or the weights are not finite.
    """
    if path != MODEL and not path.is_file():
        raise UserError(
            f"{path.as_posix()}: not found; expected a .keras file that train wrote.\n"
            f"Correct the path, or leave it out for {MODEL.as_posix()}."
        )
    from stages import evaluate  # which starts TensorFlow quietly

    import tensorflow as tf  # isort: skip

    metadata = model_file.read_metadata(path)
    runtime.configure(threads)
    architecture = config.value(config.PARAMS, "model.architecture", str)
    architectures.builder(architecture)  # its import registers layers of its own
    model = model_file.load(path)
    shape, num_classes = tuple(metadata.input_shape), len(metadata.class_names)
    mismatch = architectures.mismatch_of(model, shape, num_classes)
    if mismatch or model_file.not_finite(model):
        raise UserError(
            f"{path.as_posix()}: expected {mismatch or 'finite weights, found NaN or infinity'}.\n"
            "Delete it and run `dvc repro`."
        )
    inner = evaluate.logits_model(model)
    forward = tf.function(lambda batch: inner(batch, training=False), reduce_retracing=True)
    return Classifier(model, metadata, lambda images: forward(images).numpy())
