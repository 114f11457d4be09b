from typing import Any

import numpy as np
import pytest

from stages.lib.training import temperature


def sampled(scale: float, count: int = 20_000) -> tuple[temperature.Floats, Any]:
    """Logits that are ``scale`` times those that the labels were drawn by."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (count, 4))
    powers = np.exp(logits)
    edges = (powers / powers.sum(axis=1, keepdims=True)).cumsum(axis=1)
    labels = (random.random((count, 1)) > edges).sum(axis=1).clip(0, 3).astype(np.int64)
    return logits * scale, labels


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_finds_the_scale_by_which_logits_are_off(scale: float) -> None:
    assert temperature.fit(*sampled(scale)) == pytest.approx(scale, rel=0.03)


def test_no_other_temperature_has_a_lower_loss() -> None:
    logits, labels = sampled(2.0, 500)
    best = temperature.fit(logits, labels)
    lowest = temperature.loss(logits / best, labels)
    for other in np.linspace(0.2, 9, 200):
        assert temperature.loss(logits / other, labels) >= lowest - 1e-9


@pytest.mark.usefixtures("tensorflow")
def test_a_layer_of_the_network_may_be_called_temperature() -> None:
    import keras

    inputs = keras.Input((2, 2))
    x = keras.layers.Rescaling(2.0, name="temperature")(keras.layers.Flatten()(inputs))
    network = keras.Model(inputs, keras.layers.Dense(2)(x))
    images = np.random.default_rng(0).random((20, 2, 2), np.float32)
    made, _ = temperature.calibrated(network, images, np.arange(20) % 2)
    assert made.layers[-1].name == "temperature_"


def test_the_loss_by_hand() -> None:
    logits = np.log(np.array([[0.2, 0.8], [0.5, 0.5]]))
    expected = -(np.log(0.8) + np.log(0.5)) / 2
    assert temperature.loss(logits, np.array([1, 0])) == pytest.approx(expected)


def test_the_temperature_stays_within_limits() -> None:
    logits = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert temperature.fit(logits, np.array([0, 1])) == pytest.approx(1 / temperature.LIMIT)
    assert temperature.fit(logits, np.array([1, 0])) == pytest.approx(temperature.LIMIT)


@pytest.mark.parametrize(("scale", "count"), [(0.5, 60), (2.0, 60), (2.0, 400)])
def test_the_interval_holds_the_true_temperature_95_times_of_100(scale: float, count: int) -> None:
    logits, labels = sampled(scale, 300 * count)
    held = 0
    for start in range(0, len(labels), count):
        part = slice(start, start + count)
        low, high = temperature.interval(logits[part], temperature.fit(logits[part], labels[part]))
        held += low <= scale <= high
    assert 0.92 <= held / 300 <= 0.98  # 0.95, and two and a half standard deviations


def test_images_that_do_not_tell_leave_the_whole_range() -> None:
    whole = (1 / temperature.LIMIT, temperature.LIMIT)
    correct = np.array([[9.0, 0.0], [0.0, 9.0]])
    assert temperature.interval(correct, temperature.fit(correct, np.array([0, 1]))) == whole
    one = np.array([[1.0, 0.9]])
    assert temperature.interval(one, temperature.fit(one, np.array([1]))) == pytest.approx(whole)


def test_huge_logits_are_no_hindrance() -> None:
    logits, labels = sampled(1e6, 100)
    assert np.isfinite(temperature.fit(logits, labels))
    assert np.isfinite(temperature.loss(logits, labels))


@pytest.mark.usefixtures("tensorflow")
def test_the_model_divides_its_logits_and_loads_without_this_project(tmp_path: object) -> None:
    import keras

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)], name="net")
    images = np.random.default_rng(0).random((50, 2), np.float32)
    labels = np.arange(50) % 3
    scaled, facts = temperature.calibrated(model, images, labels)
    keras.saving.save_model(scaled, f"{tmp_path}/model.keras")
    loaded = keras.saving.load_model(f"{tmp_path}/model.keras")
    expected = model(images).numpy() / facts["temperature"]
    assert loaded(images).numpy() == pytest.approx(expected, abs=1e-5)
    assert facts["calibrated_val_loss"] <= facts["uncalibrated_val_loss"]
