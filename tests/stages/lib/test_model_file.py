import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.lib import model_file
from stages.lib.core.errors import UserError

pytestmark = pytest.mark.usefixtures("tensorflow")

SCRIPT = """
import sys, pathlib, random
junk = [bytearray(random.randrange(1, 99999)) for _ in range(200)]
import keras
from stages.lib import model_file
from stages.lib.core.errors import UserError

keras.utils.set_random_seed(3)
layers = keras.layers
model = keras.Sequential([
    keras.Input((8, 8, 1)), layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization(),
    layers.Flatten(), layers.Dropout(0.5), layers.Dense(10),
])
outputs = layers.Softmax()(model.outputs[0])
model_file.save(keras.Model(model.inputs[0], outputs), pathlib.Path(sys.argv[1]))
"""


def save_in_a_process_of_its_own(path: Path) -> str:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", SCRIPT, str(path)], check=True, env=environment)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.slow
def test_two_processes_write_equal_bytes(tmp_path: Path) -> None:
    first = save_in_a_process_of_its_own(tmp_path / "first.keras")
    assert first == save_in_a_process_of_its_own(tmp_path / "second.keras")


def test_keras_reads_the_file_back(tmp_path: Path) -> None:
    import keras

    shared = keras.layers.Dense(3)
    inputs = keras.Input((2,))
    model = keras.Model(inputs, shared(keras.layers.Dense(2)(inputs)))
    path = tmp_path / "model.keras"
    model_file.save(model, path)
    images = np.random.default_rng(0).random((5, 2), np.float32)
    loaded = model_file.load(path)
    assert (loaded(images).numpy() == model(images).numpy()).all()
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.keras"]


def test_nothing_of_the_file_is_a_time_or_an_address(tmp_path: Path) -> None:
    import keras

    path = tmp_path / "model.keras"
    model_file.save(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]), path)
    with zipfile.ZipFile(path) as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}
        assert json.loads(archive.read("metadata.json"))["date_saved"].startswith("1980")
        config = archive.read("config.json").decode()
    numbers = [
        int(part.split("}")[0].split(",")[0]) for part in config.split('shared_object_id": ')[1:]
    ]
    assert max(numbers, default=0) < 100


METADATA = model_file.Metadata(
    class_names=["bag", "Ankle boot"],
    class_names_zh=["包", "短靴"],
    input_shape=[2],
    input_range=(0.0, 1.0),
    pixel_max=255.0,
    resize="pad",
    background=0.0,
    outputs="logits",
    typical=model_file.Typical(["brightness"], [0.1], [0.5], [0.3], [[25.0]], [0.0, 2.0]),
)


def saved_with_metadata(path: Path) -> Any:
    """A model that is saved with METADATA."""
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model_file.save(model, path, METADATA)
    return model


def test_the_file_holds_the_metadata_and_keras_reads_it_as_any_other(tmp_path: Path) -> None:
    import keras

    path = tmp_path / "model.keras"
    model = saved_with_metadata(path)
    assert model_file.read_metadata(path) == METADATA
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["config.json", "metadata.json", "model.weights.h5"]
        fields = json.loads(archive.read("metadata.json"))
    assert fields["keras_version"] == keras.__version__
    assert fields["classifier"]["class_names_zh"] == ["包", "短靴"]
    images = np.random.default_rng(0).random((5, 2), np.float32)
    assert (keras.saving.load_model(path)(images).numpy() == model(images).numpy()).all()


def test_metadata_of_a_later_version_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    saved_with_metadata(path)
    edit_metadata(path, lambda fields: fields["classifier"].update(voice="soprano"))
    assert model_file.read_metadata(path) == METADATA


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda fields: fields.pop("classifier"), "no classifier in its metadata.json"),
        (lambda fields: fields["classifier"].pop("outputs"), "missing required field `outputs`"),
        (lambda fields: fields["classifier"].update(outputs="guesses"), "`$.outputs`"),
        (lambda fields: fields["classifier"].update(class_names=[1, 2]), "`$.class_names[0]`"),
    ],
)
def test_a_file_without_such_metadata_is_refused(
    edit: Callable[[Any], Any], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("model.keras")
    saved_with_metadata(path)
    edit_metadata(path, edit)
    with pytest.raises(UserError) as refused:
        model_file.read_metadata(path)
    message = str(refused.value)
    assert message.startswith("model.keras: expected a Keras model with class names as train")
    assert reason in message
    assert len(message.splitlines()) == 2


def test_metadata_of_no_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with pytest.raises(UserError, match="not found; an earlier stage makes it"):
        model_file.read_metadata(path)
    path.write_bytes(b"no model")
    with pytest.raises(UserError, match="found: File is not a zip file"):
        model_file.read_metadata(path)


def edit_metadata(path: Path, edit: Callable[[Any], Any]) -> None:
    """Writes a model's file again with its metadata edited in place."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    fields = json.loads(members["metadata.json"])
    edit(fields)
    members["metadata.json"] = json.dumps(fields).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_a_model_of_kerass_own_parts_is_not_saved_on_trial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import keras

    def refuse(*_: object) -> None:
        raise AssertionError("saved")

    monkeypatch.setattr(keras.saving, "save_model", refuse)
    inner = keras.Sequential([keras.layers.Dense(2, activation="relu")])
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.ReLU()(inner(keras.ops.relu(inputs))))
    assert model_file.obstacle_to_loading(model) is None


def test_a_file_that_holds_a_layer_is_no_model(tmp_path: Path) -> None:
    import keras

    path = tmp_path / "model.keras"
    model_file.save(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]), path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    members["config.json"] = json.dumps(config["config"]["layers"][1]).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(UserError, match=r"expected a Keras model as train writes it, found: "):
        model_file.load(path)


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may read everything")
def test_a_model_that_may_not_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(b"")
    path.chmod(0)
    with pytest.raises(PermissionError):
        model_file.load(path)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_that_are_not_finite_are_named(dtype: str) -> None:
    import keras

    layers = [keras.Input((2,)), keras.layers.Dense(2, dtype=dtype, name="last")]
    model = keras.Sequential(layers, name="net")
    assert model_file.not_finite(model) is None
    model.layers[-1].kernel.assign([[0, 1], [np.inf, 0]])
    assert model_file.not_finite(model) == "net/last/kernel"


def test_a_layer_of_ones_own_loads_beside_dropout() -> None:
    import keras

    @keras.saving.register_keras_serializable("test_model_file")
    class Scale(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.factor = self.add_weight((shape[-1],), "ones")  # type: ignore[no-untyped-call]

        def call(self, x: Any) -> Any:
            return x * self.factor

    inputs = keras.Input((3,))
    outputs = keras.layers.Dense(2)(keras.layers.Dropout(0.2)(Scale()(inputs)))  # type: ignore[no-untyped-call]
    assert model_file.obstacle_to_loading(keras.Model(inputs, outputs)) is None


def test_a_layer_that_forgets_an_argument_is_told_by_what_it_computes() -> None:
    import keras

    @keras.saving.register_keras_serializable("test_model_file")
    class Forgets(keras.layers.Layer):
        def __init__(self, factor: float = 1.0, drawn: float = 0.0, **options: Any) -> None:
            super().__init__(**options)  # type: ignore[no-untyped-call]
            self.factor, self.drawn = factor, drawn

        def call(self, x: Any) -> Any:
            return x * self.factor + self.drawn * keras.random.normal(keras.ops.shape(x))

        def get_config(self) -> dict[str, Any]:
            return dict(super().get_config())  # Keras itself would have named the arguments

    def obstacle(**arguments: float) -> str | None:
        inputs = keras.Input((3,))
        layer = Forgets(**arguments)
        return model_file.obstacle_to_loading(keras.Model(inputs, layer(inputs)))

    assert obstacle() is None
    assert obstacle(factor=1.01) == "loaded, it computes something else"
    assert obstacle(drawn=1.0) is None  # it does so from call to call


def test_a_model_of_another_network_is_not_called_damaged(tmp_path: Path) -> None:
    import keras

    @keras.saving.register_keras_serializable("test_model_file")
    class Elsewhere(keras.layers.Layer):
        pass

    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((3,)), Elsewhere()]).save(path)  # type: ignore[no-untyped-call]
    keras.saving.get_custom_objects().pop("test_model_file>Elsewhere")
    with pytest.raises(UserError, match="to the network that made it, which has its layers"):
        model_file.load(path)
