"""A small convolutional network with batch normalization."""

from typing import Annotated, Any

import keras

layers = keras.layers


def build(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    channels: list[Annotated[int, "[1, 4096]"]],
    convolutions: list[Annotated[int, "[1, 16]"]],
    dropout: Annotated[float, "[0, 1)"],
) -> keras.Model:
    """A network of 3 x 3 convolutions in stages, the image halved between them, ending in logits.

    Args:
        input_shape: H x W or H x W x C of one image.
        num_classes: K.
        channels: The channels of each stage.
        convolutions: The convolutions of each stage, as many numbers as ``channels``.
        dropout: The fraction of the last features that training sets to 0.

    Returns:
        An untrained model, N x input_shape to N x K logits.
    """
    inputs = keras.Input(input_shape)
    x = inputs if len(input_shape) == 3 else layers.Reshape((*input_shape, 1))(inputs)
    for stage, (width, depth) in enumerate(zip(channels, convolutions, strict=True), start=1):
        for at in range(1, depth + 1):
            x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
            if at == depth and stage < len(channels) and min(x.shape[1:3]) >= 4:
                x = layers.MaxPooling2D()(x)  # before normalization: a quarter of the work
            x = normalized(x)
    x = layers.GlobalMaxPooling2D()(x)
    if dropout:
        x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, layers.Dense(num_classes)(x), name="cnn")


def problem(*, channels: list[int], convolutions: list[int], **_: Any) -> str | None:
    """What does not fit among the arguments of ``build``, or None: argument, expected, found."""
    if not channels:
        return "channels: expected at least one number, found none"
    if len(channels) != len(convolutions):
        return (
            f"convolutions: expected a number for each of channels {channels}, found {convolutions}"
        )
    return None


def normalized(x: Any) -> Any:
    """Batch normalization, quick to follow a short training, and relu."""
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x))
