from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.lib import model_file
from stages.lib.training import naming, standardization

RANDOM = np.random.default_rng(0)
COLOUR = (RANDOM.random((1500, 3, 4, 3)) * [0.1, 0.5, 1] + [0.8, 0.2, 0]).astype(np.float32)


def network(shape: tuple[int, ...]) -> Any:
    import keras

    layers = [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(2)]
    return keras.Sequential(layers, name="own")


@pytest.mark.usefixtures("tensorflow")
def test_names_that_are_taken_are_not_taken_again() -> None:
    import keras

    layers = [keras.Input((3, 4)), *network((3, 4)).layers]
    inner = keras.Sequential(layers, name="standardize")
    outer = standardization.standardized(inner, *standardization.moments(COLOUR[..., 0]))
    assert [layer.name for layer in outer.layers[1:]] == ["standardize_", "standardize"]
    taken = keras.Sequential([keras.layers.Dense(2, name="softmax"), outer])
    assert naming.free("softmax", taken) == "softmax_"
    assert naming.free("temperature", taken) == "temperature"
    inputs = keras.Input((4,))
    operation = keras.Model(inputs, keras.layers.Dense(2)(keras.ops.softmax(inputs)))
    assert naming.free("softmax", operation) != operation.operations[1].name
    assert naming.free(operation.operations[1].name, operation) != operation.operations[1].name


def test_moments_are_those_of_each_channel() -> None:
    mean, deviation = standardization.moments(COLOUR)
    assert mean == pytest.approx(COLOUR.mean(axis=(0, 1, 2), dtype=np.float64), rel=1e-5)
    assert deviation == pytest.approx(COLOUR.std(axis=(0, 1, 2), dtype=np.float64), rel=1e-5)
    grey = standardization.moments(COLOUR[..., 1])
    assert [value.tolist() for value in grey] == [[mean[1]], [deviation[1]]]


def test_a_constant_channel_is_not_divided_by_its_deviation() -> None:
    mean, deviation = standardization.moments(np.full((5, 2, 2), 0.3, np.float32))
    assert (mean.tolist(), deviation.tolist()) == ([0.3], [1.0])


@pytest.mark.usefixtures("tensorflow")
@pytest.mark.parametrize("images", [COLOUR, COLOUR[..., 1]], ids=["colour", "grey"])
def test_the_network_sees_standardized_images_in_the_saved_model_too(
    images: Any, tmp_path: Path
) -> None:
    inner = network(images.shape[1:])
    outer = standardization.standardized(inner, *standardization.moments(images))
    axes = tuple(range(3))
    expected = inner((images - images.mean(axis=axes)) / images.std(axis=axes)).numpy()
    assert outer(images).numpy() == pytest.approx(expected, abs=1e-4)
    model_file.save(outer, tmp_path / "a.keras")
    loaded = model_file.load(tmp_path / "a.keras")
    assert (loaded(images).numpy() == outer(images).numpy()).all()
    assert loaded.count_params() == inner.count_params()
