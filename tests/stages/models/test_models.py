from typing import Any

import numpy as np
import pytest

from stages.models import cnn, mlp

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
