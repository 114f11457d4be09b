"""A network of keras.applications under a new top, for weights that others have trained."""

from typing import Annotated, Any, Literal

import keras

from stages.lib.core.errors import UserError

layers = keras.layers

Backbone = Literal[
    "ConvNeXtBase",
    "ConvNeXtSmall",
    "ConvNeXtTiny",
    "DenseNet121",
    "EfficientNetV2B0",
    "EfficientNetV2B1",
    "EfficientNetV2B2",
    "EfficientNetV2B3",
    "MobileNetV2",
    "MobileNetV3Large",
    "MobileNetV3Small",
    "ResNet50V2",
]
_SMALLEST = 32  # pixels, of any of them
# Each was trained on pixels from -1 to 1, or on those of ImageNet's mean 0 and deviation 1
_FROM_MINUS_1_TO_1 = ("MobileNetV2", "MobileNetV3Large", "MobileNetV3Small", "ResNet50V2")
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# These would scale the pixels by layers of their own, which not every format can be exported with
_SCALING = ("ConvNeXt", "EfficientNetV2", "MobileNetV3")


def build(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    backbone: Backbone,
    dropout: Annotated[float, "[0, 1)"] = 0.0,
) -> keras.Model:
    """A network of keras.applications up to its mean over the image, and a dense layer of logits.

    Args:
        input_shape: H x W or H x W x C of one image, 1 or 3 channels from 0 to 1.
        num_classes: K.
        backbone: The network's name in keras.applications.
        dropout: The fraction of its features that training sets to 0.

    Returns:
        A model with values drawn at random, N x input_shape to N x K logits.

    Raises:
        UserError: The images are too small for it, or have neither 1 nor 3 channels.
    """
    height, width, channels = (*input_shape, 1)[:3]
    if min(height, width) < _SMALLEST or channels not in (1, 3):
        raise UserError(
            f"params.yaml: normalize.size: expected {_SMALLEST} x {_SMALLEST} pixels or more of 1 "
            f"or 3 channels for {backbone}, found {' x '.join(str(n) for n in input_shape)}.\n"
            "Set it to 96 or 224, say, and run `dvc repro`."
        )
    inputs = keras.Input(input_shape)
    x = inputs if len(input_shape) == 3 else layers.Reshape((*input_shape, 1))(inputs)
    if channels == 1:
        x = layers.Concatenate()([x, x, x])
    x = scaled(x, backbone)
    x = network(backbone, (height, width, 3))(x)
    if dropout:
        x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, layers.Dense(num_classes)(x), name="pretrained")


def scaled(x: Any, backbone: str) -> Any:
    """Pixels from 0 to 1 (N x H x W x 3) as a network was trained on them."""
    if backbone in _FROM_MINUS_1_TO_1:
        return layers.Rescaling(2.0, -1.0)(x)
    scale = [1 / deviation for deviation in _DEVIATION]
    offset = [-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)]
    return layers.Rescaling(scale, offset)(x)


def network(backbone: str, shape: tuple[int, int, int]) -> keras.Model:
    """The network without its top, N x H x W x 3 to N x F features, with values drawn at random."""
    own = {"include_preprocessing": False} if backbone.startswith(_SCALING) else {}
    make = getattr(keras.applications, backbone)
    model: keras.Model = make(
        include_top=False, weights=None, input_shape=shape, pooling="avg", **own
    )
    return model
