"""A small trained model and its test split, as tools find them."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.lib import model_file, split_file
from stages.lib.training import typicality

NAMES = ["low", "middle", "high"]


def images(count: int, shape: tuple[int, ...] = (6, 6), seed: int = 0) -> npt.NDArray[np.float32]:
    """Images whose brightness varies."""
    random = np.random.default_rng(seed)
    levels = random.random((count, *(1 for _ in shape)), np.float32)
    return (0.5 * levels + 0.5 * random.random((count, *shape), np.float32)).astype(np.float32)


def metadata(shape: tuple[int, ...], outputs: str = "logits") -> model_file.Metadata:
    """What the file of a model for such images says."""
    return model_file.Metadata(
        class_names=NAMES,
        class_names_zh=["低", "中", "高"],
        input_shape=list(shape),
        input_range=(0.0, 1.0),
        pixel_max=255.0,
        resize="pad",
        background=0.0,
        outputs="logits" if outputs == "logits" else "probabilities",
        typical=typicality.describe(images(200, shape)),
    )


def batch_normalization() -> Any:
    """A batch normalization whose moving averages are not those of a batch."""
    import keras

    layer: Any = keras.layers.BatchNormalization()
    layer.build((None, None, None, 4))
    layer.moving_mean.assign([0.1, -0.2, 0.3, 0])
    layer.moving_variance.assign([0.1, 2, 3, 4])
    return layer


def network(*first: Any, shape: tuple[int, ...] = (6, 6), softmax: bool = False) -> Any:
    """A network with batch normalization, after layers of a test's own."""
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    channels = [] if len(shape) == 3 else [layers.Reshape((*shape, 1))]
    return keras.Sequential(
        [
            keras.Input(shape),
            *channels,
            *first,
            layers.Conv2D(4, 3),
            batch_normalization(),
            layers.GlobalMaxPooling2D(),
            layers.Dropout(0.5),
            layers.Dense(3, kernel_initializer="orthogonal"),
            *([layers.Softmax()] if softmax else []),
        ]
    )


def put_model(model: Any, outputs: str = "logits") -> None:
    """Writes models/model.keras and a test split of 40 images in the working folder."""
    shape = tuple(model.input_shape[1:])
    model_file.save(model, Path("models/model.keras"), metadata(shape, outputs))
    labels = np.arange(40) % 3
    split = split_file.Split(images(40, shape, seed=1), labels, NAMES, [], 255.0)
    split_file.write(Path("data/normalized/test.npz"), split)
