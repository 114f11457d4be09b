import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from stages.lib import model_file
from stages.lib.core.errors import UserError
from stages.lib.training import standardization, starting, temperature
from stages.models import cnn, mlp, pretrained
from tests.tools import model_fixtures

pytestmark = pytest.mark.usefixtures("tensorflow")

BLOCK: dict[str, Any] = {"channels": [4, 6], "convolutions": [1, 2], "dropout": 0.1}
NAMES = ["a", "b", "c"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    starting.FOLDER.mkdir(parents=True)
    return tmp_path


def stirred(model: Any) -> Any:
    """The model with other values in every weight, those of batch normalization too."""
    random = np.random.default_rng(5)
    for weight in model.weights:
        weight.assign(random.uniform(0.5, 1.5, weight.shape))
    return model


def saved(model: Any, class_names: Sequence[str] = NAMES) -> Path:
    path = starting.FOLDER / "own.keras"
    metadata = msgspec.structs.replace(
        model_fixtures.metadata((8, 8)), class_names=list(class_names)
    )
    model_file.save(model, path, metadata)
    return path


def published(network: Any, name: str = "network_notop.h5") -> Path:
    """A file laid out as those of keras.applications are."""
    import h5py  # type: ignore[import-untyped] # it has no types
    from keras.src.legacy.saving import legacy_h5_format

    path = starting.FOLDER / name
    with h5py.File(path, "w") as stream:
        legacy_h5_format.save_weights_to_hdf5_group(stream, network)
    return path


def equal(first: Any, second: Any) -> bool:
    pairs = zip(first.weights, second.weights, strict=True)
    return all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs)


def refusal(model: Any, path: Path) -> str:
    with pytest.raises(UserError) as raised:
        starting.assign(model, path, NAMES)
    return str(raised.value)


SUM = f"{hashlib.sha256(b'weights').hexdigest()}  own.h5\n"


def listed(sums: str) -> None:
    """Says that download brought these files."""
    starting.SUMS.write_text(sums, encoding="utf-8", newline="\n")


def test_the_file_of_the_entry_is_found() -> None:
    path = starting.FOLDER / "own.h5"
    path.write_bytes(b"weights")
    listed(SUM)
    assert starting.file(SUM) == path


def test_an_entry_without_files_gives_none() -> None:
    assert starting.file("") is None
    listed("")
    assert starting.file("") is None


def test_another_file_or_none_is_refused() -> None:
    path = starting.FOLDER / "own.h5"
    listed(SUM)
    with pytest.raises(UserError, match=r"data/weights/own\.h5: not found, though weights\.yaml"):
        starting.file(SUM)
    path.write_bytes(b"others")
    with pytest.raises(UserError, match=r"data/weights/own\.h5: expected the weights that model"):
        starting.file(SUM)


def test_files_of_another_entry_are_refused() -> None:
    for there, sums in [(SUM, ""), ("", SUM), (f"{'0' * 64}  own.h5\n", SUM)]:
        listed(there)
        with pytest.raises(UserError) as raised:
            starting.file(sums)
        assert str(raised.value) == (
            f"data/weights/SHA256SUMS: expected what weights.yaml has for model.weights, "
            f"{sums.strip()!r}, found {there.strip()!r}.\n"
            "Run `dvc repro`, which runs download first."
        )


def test_of_the_same_classes_every_value_is_taken() -> None:
    before = stirred(cnn.build((8, 8), 3, **BLOCK))
    model = cnn.build((8, 8), 3, **BLOCK)
    layers = starting.assign(model, saved(before), NAMES)
    assert equal(model, before)
    assert layers == starting.weighted_layers(model)[:-1]


def test_layers_that_are_not_trained_in_the_file_are_not_trained_from_there() -> None:
    before = cnn.build((8, 8), 3, **BLOCK)
    starting.weighted_layers(before)[1].trainable = False  # as batch normalization in a backbone
    model = cnn.build((8, 8), 3, **BLOCK)
    starting.assign(model, saved(before), NAMES)
    trainable = [layer.trainable for layer in starting.weighted_layers(model)]
    assert trainable == [True, False, *[True] * (len(trainable) - 2)]


@pytest.mark.parametrize("names", [["x", "y", "z"], ["a", "b"]])
def test_of_other_classes_the_last_layer_keeps_its_own_values(names: list[str]) -> None:
    before = stirred(cnn.build((8, 8), len(names), **BLOCK))
    model = cnn.build((8, 8), 3, **BLOCK)
    own = model.layers[-1].get_weights()
    starting.assign(model, saved(before, names), NAMES)
    pairs = list(
        zip(starting.weighted_layers(model), starting.weighted_layers(before), strict=True)
    )
    for mine, its in pairs[:-1]:
        assert equal(mine, its)
    for value, drawn in zip(model.layers[-1].get_weights(), own, strict=True):
        assert np.array_equal(value, drawn)


def test_the_last_layer_is_the_last_that_is_called(tmp_path: Path) -> None:
    import keras

    @keras.saving.register_keras_serializable("test_starting")
    class HeadFirst(keras.Model):
        def __init__(self, width: int, **options: Any) -> None:
            super().__init__(**options)  # type: ignore[no-untyped-call]
            self.width = width
            self.head = keras.layers.Dense(3)
            self.hidden = keras.layers.Dense(width)

        def build(self, shape: Any) -> None:
            self.hidden.build(shape)
            self.head.build((None, self.width))

        def call(self, x: Any) -> Any:
            return self.head(self.hidden(x))

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "width": self.width}

    def build() -> Any:
        inputs = keras.Input((8, 8))
        flat = keras.layers.Flatten()(inputs)
        return keras.Model(inputs, HeadFirst(5)(flat))

    before, model = stirred(build()), build()
    inner = model.layers[-1]
    own = inner.head.get_weights()
    assert starting.assign(model, saved(before, ["x", "y", "z"]), NAMES) == [inner.hidden]
    assert equal(inner.hidden, before.layers[-1].hidden)
    assert all(map(np.array_equal, inner.head.get_weights(), own))
    assert not any("call" in layer.__dict__ for layer in (inner.head, inner.hidden))


def test_of_other_classes_one_layer_alone_takes_nothing() -> None:
    import keras

    def build() -> Any:
        layers = [keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(3)]
        return keras.Sequential(layers)

    assert starting.assign(build(), saved(stirred(build())), NAMES) == []
    message = refusal(build(), saved(build(), ["x", "y", "z"]))
    assert message.startswith("data/weights/own.keras: model.weights: expected a network with ")
    assert "found 1 layer with weights.\nWrite the network as more than one layer" in message


def test_what_a_training_put_around_the_network_does_no_harm() -> None:
    import keras

    before = stirred(cnn.build((8, 8), 3, **BLOCK))
    images = np.random.default_rng(0).random((30, 8, 8), np.float32)
    labels = np.arange(30) % 3
    around = standardization.standardized(before, *standardization.moments(images))
    around, _ = temperature.calibrated(around, images, labels)
    around = keras.Model(around.inputs[0], keras.layers.Softmax()(around.outputs[0]))
    model = cnn.build((8, 8), 3, **BLOCK)
    starting.assign(model, saved(around), NAMES)
    assert equal(model, before)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (
            {**BLOCK, "channels": [4, 8]},
            r"Conv2D \(3, 3, 4, 6\) for the layer conv2d_\d+, found Conv2D \(3, 3, 4, 8\)",
        ),
        ({**BLOCK, "convolutions": [1, 1]}, "7 layers with weights, found 5"),
    ],
)
def test_another_network_is_refused(other: dict[str, Any], expected: str) -> None:
    path = saved(cnn.build((8, 8), 3, **other))
    message = refusal(cnn.build((8, 8), 3, **BLOCK), path)
    start = "data/weights/own.keras: expected the weights of the configured network, "
    assert message.startswith(start)
    assert re.search(expected, message), message


def test_a_file_that_is_no_model_is_refused() -> None:
    path = starting.FOLDER / "own.keras"
    path.write_bytes(b"no model")
    assert "expected a Keras model" in refusal(
        mlp.build((8, 8), 3, hidden_units=[], dropout=0.0), path
    )


def test_a_network_of_keras_applications_takes_its_published_weights() -> None:
    import keras

    network = stirred(pretrained.network("MobileNetV3Small", (32, 32, 3)))
    model = pretrained.build((32, 32), 3, backbone="MobileNetV3Small")
    layers = starting.assign(model, published(network), NAMES)
    inner = starting.backbone(model)
    assert inner is not None
    assert equal(inner, network)
    assert layers == starting.weighted_layers(inner)
    normalizing = [each for each in layers if isinstance(each, keras.layers.BatchNormalization)]
    assert normalizing
    assert not any(layer.trainable for layer in normalizing)
    assert all(layer.trainable for layer in layers if layer not in normalizing)
    images = np.random.default_rng(0).random((4, 32, 32), np.float32)
    assert np.array_equal(  # batch normalization is as at inference, whatever is asked for
        *(inner(np.stack([images] * 3, -1), training=training) for training in (True, False))
    )


@pytest.mark.slow
def test_weights_that_keras_saves_today_are_taken_too() -> None:
    network = stirred(pretrained.network("MobileNetV3Small", (32, 32, 3)))
    path = starting.FOLDER / "own.weights.h5"
    network.save_weights(path)
    model = pretrained.build((32, 32, 3), 3, backbone="MobileNetV3Small")
    starting.assign(model, path, NAMES)
    inner = starting.backbone(model)
    assert inner is not None
    assert equal(inner, network)


def test_weights_of_another_network_of_keras_applications_are_refused() -> None:
    path = published(pretrained.network("MobileNetV2", (32, 32, 3)))
    model = pretrained.build((32, 32), 3, backbone="MobileNetV3Small")
    message = refusal(model, path)
    assert message.startswith("data/weights/network_notop.h5: expected the weights of MobileNetV3")
    assert "Correct model.pretrained.backbone or model.weights" in message
    path.write_bytes(b"no weights")
    assert refusal(model, path).startswith("data/weights/network_notop.h5: expected the weights")


def test_published_weights_need_a_network_of_keras_applications() -> None:
    path = published(mlp.build((8, 8), 3, hidden_units=[4], dropout=0.0))
    assert refusal(cnn.build((8, 8), 3, **BLOCK), path) == (
        "params.yaml: model.weights: expected a .keras file for this architecture, found "
        "network_notop.h5, weights of a network of keras.applications.\n"
        "Set model.architecture: pretrained, or name other weights."
    )


def test_another_last_layer_of_the_same_classes_is_refused() -> None:
    import keras

    def network(bias: bool) -> Any:
        layers = [keras.Input((4,)), keras.layers.Dense(5), keras.layers.Dense(3, use_bias=bias)]
        return keras.Sequential(layers)

    message = refusal(network(True), saved(network(False)))
    assert "expected the weights of the configured network, Dense (5, 3) (3,) for the " in message
    starting.assign(network(True), saved(network(False), ["x", "y", "z"]), NAMES)
