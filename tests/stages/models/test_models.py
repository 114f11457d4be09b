from typing import Any

import numpy as np
import pytest

from stages.lib.core.errors import UserError
from stages.models import cnn, mlp, pretrained

pytestmark = pytest.mark.usefixtures("tensorflow")

SHAPES = [(8, 8), (28, 28), (32, 32, 3), (5, 7, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_mlp_ends_in_logits_of_every_class(shape: tuple[int, ...]) -> None:
    model = mlp.build(shape, 7, hidden_units=[4, 3], dropout=0.1)
    assert model(np.zeros((2, *shape), np.float32)).shape == (2, 7)


@pytest.mark.parametrize("shape", SHAPES)
def test_cnn_ends_in_logits_of_every_class(shape: tuple[int, ...]) -> None:
    model = cnn.build(shape, 7, channels=[4, 6], convolutions=[1, 2], dropout=0.1)
    assert model(np.zeros((2, *shape), np.float32)).shape == (2, 7)


def test_the_tutorials_network_has_101770_parameters() -> None:
    # 784 x 128 weights and 128 biases, 128 x 10 weights and 10 biases
    model = mlp.build((28, 28), 10, hidden_units=[128], dropout=0.2)
    assert model.count_params() == 784 * 128 + 128 + 128 * 10 + 10


def test_no_hidden_layer_makes_a_linear_classifier() -> None:
    assert mlp.build((8, 8), 10, hidden_units=[], dropout=0.0).count_params() == 64 * 10 + 10


def test_cnn_halves_the_image_between_stages_while_it_can() -> None:
    arguments: dict[str, Any] = {"channels": [2, 2, 2, 2], "convolutions": [1] * 4, "dropout": 0.0}
    model = cnn.build((8, 8), 10, **arguments)
    sizes = [layer.output.shape[1] for layer in model.layers if layer.name.startswith("re_lu")]
    assert sizes == [4, 2, 2, 2]


@pytest.mark.parametrize(
    ("channels", "convolutions", "expected"),
    [
        ([4, 4], [1], "convolutions: expected a number for each of channels [4, 4], found [1]"),
        ([], [], "channels: expected at least one number, found none"),
        ([4], [1], None),
    ],
)
def test_cnn_wants_as_many_numbers_of_convolutions_as_of_channels(
    channels: list[int], convolutions: list[int], expected: str | None
) -> None:
    assert cnn.problem(channels=channels, convolutions=convolutions, dropout=0.0) == expected


@pytest.mark.parametrize("shape", [(32, 32), (33, 47, 1), (32, 40, 3)])
def test_a_pretrained_network_ends_in_logits_of_every_class(shape: tuple[int, ...]) -> None:
    model = pretrained.build(shape, 7, backbone="MobileNetV3Small", dropout=0.1)
    assert model(np.zeros((2, *shape), np.float32)).shape == (2, 7)


@pytest.mark.parametrize("shape", [(28, 28), (32, 31, 3), (64, 64, 2)])
def test_a_pretrained_network_refuses_images_that_it_is_not_made_for(
    shape: tuple[int, ...],
) -> None:
    with pytest.raises(UserError, match=r"params\.yaml: normalize\.size: expected 32 x 32 pixels"):
        pretrained.build(shape, 7, backbone="MobileNetV2")


# One of each kind, by the module whose preprocess_input and layers say what its pixels are
PUBLISHED = {
    "MobileNetV2": "mobilenet_v2",
    "MobileNetV3Small": "mobilenet_v3",
    "ResNet50V2": "resnet_v2",
    "DenseNet121": "densenet",
    "EfficientNetV2B0": "efficientnet_v2",
    "ConvNeXtTiny": "convnext",
}


@pytest.mark.parametrize(
    "backbone",
    [
        name if name == "MobileNetV3Small" else pytest.param(name, marks=pytest.mark.slow)
        for name in PUBLISHED
    ],
)
def test_a_pretrained_network_sees_the_pixels_that_it_was_trained_on(backbone: Any) -> None:
    import keras

    module = getattr(keras.applications, PUBLISHED[backbone])
    network = getattr(keras.applications, backbone)(
        include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg"
    )
    model = pretrained.build((32, 32, 3), 5, backbone=backbone)
    inner = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    random = np.random.default_rng(1)
    for layer in inner.layers:  # an untrained network gives next to nothing
        values = [random.uniform(0.5, 1.5, value.shape) * value for value in layer.get_weights()]
        layer.set_weights(values)
    weighted = [layer for layer in network.layers if layer.count_params()]
    theirs = [layer for layer in weighted if not layer.name.startswith("normalization")]
    for mine, its in zip(
        [layer for layer in inner.layers if layer.count_params()], theirs, strict=True
    ):
        its.set_weights(mine.get_weights())
    images = random.random((4, 32, 32, 3)).astype(np.float32)
    pixels = module.preprocess_input(images * 255)
    features = keras.Model(model.inputs[0], model.layers[-1].input)(images).numpy()
    expected = network(pixels).numpy()
    largest = np.abs(expected).max()
    assert expected.std(axis=0).max() > 1e-2 * largest  # the images make a difference
    assert features / largest == pytest.approx(expected / largest, rel=1e-2, abs=1e-3)
