import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.lib import architectures, model_file, split_file
from stages.lib.training import checkpoint, loop

pytestmark = pytest.mark.usefixtures("tensorflow")

ROOT = Path(__file__).parents[2]
OUTPUTS = ("models/model.keras", "reports/train/history.csv", "reports/train/metrics.json")


def history() -> list[dict[str, str]]:
    with Path("reports/train/history.csv").open() as stream:
        return list(csv.DictReader(stream))


def metrics() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("reports/train/metrics.json").read_text())
    return found


def test_learns_and_writes_model_history_and_metrics(
    ready: Any, run_stage: Callable[[str], Any]
) -> None:
    import keras

    finished = run_stage("train")
    assert finished.code == 0, finished.err
    assert "Untrained loss on one batch" in finished.out
    assert re.search(r"^Runs on (the CPU: |\d+ GPU: ).+\.$", finished.out, re.MULTILINE)
    assert "ln 2 = 0.6931" in finished.out
    rows = history()
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert set(rows[0]) == {
        "epoch", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy"
    }  # fmt: skip
    assert float(rows[-1]["val_accuracy"]) > 0.9
    assert metrics()["epochs"] == 4
    assert metrics()["parameters"] == 16 * 8 + 8 + 8 * 2 + 2
    test = split_file.read(Path("data/normalized/test.npz"))
    model = keras.saving.load_model("models/model.keras")
    assert (model(test.images).numpy().argmax(1) == test.labels).mean() > 0.9
    assert not Path(".checkpoints").exists()
    assert ready.left_over() == []


def test_softmax_output_is_the_softmax_of_the_same_logits_and_the_model_says_which_it_has(
    ready: Any, run_stage: Callable[[str], Any]
) -> None:
    import keras

    images = split_file.read(Path("data/normalized/test.npz")).images
    outputs = {}
    for output, kind in (("logits", "logits"), ("softmax", "probabilities")):
        ready.params["model"]["output"] = output
        ready.save()
        assert run_stage("train").code == 0
        assert model_file.read_metadata(Path("models/model.keras")).outputs == kind
        outputs[output] = keras.saving.load_model("models/model.keras")(images).numpy()
    powers = np.exp(outputs["logits"].astype(np.float64))
    expected = powers / powers.sum(axis=1, keepdims=True)
    assert outputs["softmax"] == pytest.approx(expected, abs=1e-6)


def test_the_model_carries_what_its_user_has_to_know(
    ready: Any, run_stage: Callable[[str], Any]
) -> None:
    assert run_stage("train").code == 0
    metadata = model_file.read_metadata(Path("models/model.keras"))
    assert metadata.class_names == ["low", "high"]
    assert metadata.class_names_zh == []
    assert metadata.input_shape == [4, 4]
    assert metadata.input_range == (0, 1)
    assert metadata.pixel_max == 255
    assert metadata.typical.properties[0] == "brightness"
    assert 0 < metadata.typical.lowest[0] < 0.2 < 0.8 < metadata.typical.highest[0] < 1


@pytest.mark.parametrize("output", ["logits", "softmax"])
def test_a_temperature_changes_no_class_and_is_in_the_model(
    output: str, ready: Any, run_stage: Callable[[str], Any]
) -> None:
    import keras

    ready.params["model"]["output"] = output
    answers = {}
    images = split_file.read(Path("data/normalized/test.npz")).images
    for kind in ("none", "validation"):
        ready.params["train"]["temperature"] = kind
        ready.save()
        assert run_stage("train").code == 0
        record = json.loads(Path("reports/train/run.json").read_text())["parameters"]
        assert ("train.temperature" in record) == (kind == "validation")
        answers[kind] = keras.saving.load_model("models/model.keras")(images).numpy()
        assert ("temperature" in metrics()) == (kind == "validation")
    found = metrics()
    assert found["calibrated_val_loss"] <= found["uncalibrated_val_loss"]
    before, after = answers["none"], answers["validation"]
    if output == "logits":
        assert after == pytest.approx(before / found["temperature"], rel=1e-4, abs=1e-5)
    else:
        assert after.sum(axis=1) == pytest.approx(np.ones(len(after)), abs=1e-5)
    assert (after.argmax(axis=1) == before.argmax(axis=1)).all()
    assert run_stage("evaluate").code == 0


def test_the_model_says_how_its_images_were_fitted(
    ready: Any, run_stage: Callable[[str], Any]
) -> None:
    path = Path("data/normalized/train.npz")
    dark = replace(split_file.read(path), images=split_file.read(path).images[:] * np.float32(0.3))
    for fitted, expected in ((("crop", 1.0), ("crop", 1)), (None, ("pad", 0))):
        split_file.write(path, replace(dark, fitted=fitted))
        assert run_stage("train").code == 0
        metadata = model_file.read_metadata(Path("models/model.keras"))
        assert (metadata.resize, metadata.background) == expected


def test_no_validation_split_leaves_its_columns_out(
    ready: Any, run_stage: Callable[[str], Any]
) -> None:
    path = Path("data/normalized/validation.npz")
    split = split_file.read(path)
    empty = split_file.Split(split.images[:0], split.labels[:0], ["low", "high"], [], 255.0)
    split_file.write(path, empty)
    assert run_stage("train").code == 0
    assert set(history()[0]) == {"epoch", "learning_rate", "loss", "accuracy"}
    assert "val_loss" not in metrics()


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("train", "optimizer", "adma", "train.optimizer: expected one of .*adam.*'adma'"),
        ("train", "epochs", 0, r"train.epochs: expected an integer in \[1, 10000\].* 0"),
        ("train", "epochs", "5", "train.epochs: expected an integer .*the text '5'"),
        ("train", "batch_sise", 32, "train.batch_sise: unknown key"),
        ("model", "architecture", "mpl", "model.architecture: expected one of cnn, mlp"),
        ("model", "output", "logit", "model.output: expected one of logits, softmax"),
        (
            "model",
            "mlp",
            {"hidden_units": [8], "dropout": 1.0},
            r"model.mlp.dropout: .*\[0, 1\).* 1.0",
        ),
    ],
)
def test_a_wrong_parameter_is_named_with_what_is_allowed(
    section: str,
    key: str,
    value: object,
    expected: str,
    ready: Any,
    run_stage: Callable[[str], Any],
) -> None:
    import re

    ready.params[section][key] = value
    ready.save()
    message = run_stage("train").message
    assert re.search(f"^params.yaml: {expected}", message), message
    assert not Path("models").exists()


def test_the_nearest_optimizer_is_suggested(ready: Any, run_stage: Callable[[str], Any]) -> None:
    ready.params["train"]["optimizer"] = "adma"
    ready.save()
    assert run_stage("train").message.endswith("Did you mean 'adam'?")


def test_a_missing_split_names_the_next_step(ready: Any, run_stage: Callable[[str], Any]) -> None:
    Path("data/normalized/train.npz").unlink()
    message = run_stage("train").message
    assert message.startswith("data/normalized/train.npz: not found")
    assert "dvc repro" in message


KILLED = """
import os, runpy, signal, sys
from stages.lib.core import files
from stages.lib.training import checkpoint

moment, epoch = sys.argv[1], int(sys.argv[2])
save = checkpoint.Checkpoint.save
def dying(self, variables, history):
    if len(history) == epoch:
        if moment == "writing":
            os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
        save(self, variables, history)
        os.kill(os.getpid(), signal.SIGKILL)
    save(self, variables, history)
checkpoint.Checkpoint.save = dying
runpy.run_module("stages.train", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize(
    ("moment", "epoch"),
    [(moment, epoch) for moment in ("after", "writing") for epoch in (1, 2, 3, 4)],
)
def test_killed_and_run_again_gives_the_bytes_of_an_uninterrupted_training(
    moment: str, epoch: int, ready: Any, run_stage: Callable[[str], Any]
) -> None:
    ready.params["train"]["augmentation"] |= {"shift": 1, "flip": True}
    ready.params["train"]["optimizer"] = "adamw"
    ready.save()
    assert run_stage("train").code == 0
    expected = {name: Path(name).read_bytes() for name in OUTPUTS}
    shutil.rmtree("models")
    shutil.rmtree("reports")
    # The kept state is keyed by the code, so the killed run has to import it from the same place.
    done = subprocess.run(
        [sys.executable, "-c", KILLED, moment, str(epoch)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    kept = epoch if moment == "after" else epoch - 1
    assert len(list(Path(".checkpoints").glob("*.npz"))) == (0 if kept == 0 else 1)
    assert not Path("models").exists()
    finished = subprocess.run(
        [sys.executable, "-m", "stages.train"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    assert (f"Going on after epoch {kept}" in finished.stdout) == (kept > 0)
    assert {name: Path(name).read_bytes() for name in OUTPUTS} == expected
    assert not Path(".checkpoints").exists()


@pytest.mark.parametrize("edited", ["configuration", "input"])
def test_a_training_that_was_not_accepted_is_not_lost(
    edited: str, ready: Any, run_stage: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_stage("train").code == 0
    expected = {name: Path(name).read_bytes() for name in OUTPUTS}
    save, epochs = checkpoint.Checkpoint.save, ready.params["train"]["epochs"]

    def editing(self: checkpoint.Checkpoint, variables: Any, history: Any) -> None:
        save(self, variables, history)
        if edited == "configuration":
            ready.params["train"]["epochs"] = epochs + 1
            ready.save()
        else:
            os.utime("data/normalized/train.npz")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpoint, "save", editing)
        assert "was changed while it ran" in run_stage("train").message
    assert len(list(Path(".checkpoints").glob("*.npz"))) == 1
    ready.params["train"]["epochs"] = epochs
    ready.save()
    assert f"Going on after epoch {epochs}" in run_stage("train").out
    assert {name: Path(name).read_bytes() for name in OUTPUTS} == expected
    assert not Path(".checkpoints").exists()


def test_metrics_have_names_of_their_own(ready: Any, run_stage: Callable[[str], Any]) -> None:
    assert run_stage("train").code == 0
    last = history()[-1]
    assert list(metrics()) == [
        "train_loss", "train_accuracy", "val_loss", "val_accuracy", "epochs", "parameters",
        "untrained_loss",
    ]  # fmt: skip
    assert metrics()["train_loss"] == float(last["loss"])
    assert metrics()["val_accuracy"] == float(last["val_accuracy"])


@pytest.mark.parametrize("batch_size", [8, 1000])
def test_a_training_that_diverges_is_refused(
    batch_size: int, ready: Any, run_stage: Callable[[str], Any]
) -> None:
    ready.params["train"] |= {
        "learning_rate": 1e38, "schedule": "constant", "warmup": 0.0, "batch_size": batch_size
    }  # fmt: skip
    ready.save()
    message = run_stage("train").message
    assert message.startswith("params.yaml: train.learning_rate: expected one that lets the loss")
    assert "with 1e+38, found " in message
    assert f"after epoch 1 (step 1{' to 12' if batch_size == 8 else ''})" in message
    assert "raise train.warmup" in message
    assert not Path("models").exists()


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_training_that_diverges_in_its_last_step_is_refused(
    optimizer: str, ready: Any, run_stage: Callable[[str], Any]
) -> None:
    path = Path("data/normalized/validation.npz")
    split = split_file.read(path)
    empty = split_file.Split(split.images[:0], split.labels[:0], ["low", "high"], [], 255.0)
    split_file.write(path, empty)
    ready.params["train"] |= {
        "optimizer": optimizer, "learning_rate": 1e38, "schedule": "constant", "warmup": 0.0,
        "batch_size": 1000, "epochs": 1,
    }  # fmt: skip
    ready.save()
    message = run_stage("train").message
    assert message.startswith("params.yaml: train.learning_rate: expected one that lets the loss")
    assert "found loss " in message
    assert not Path("models").exists()


def test_weights_that_are_not_finite_are_named(
    ready: Any, run_stage: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch = loop.Loop.epoch

    def spoiling(self: loop.Loop, *arguments: Any) -> loop.Scores:
        scores = epoch(self, *arguments)
        self.variables[-1].assign(np.full(self.variables[-1].shape, np.nan, np.float32))
        self._model.variables[1].assign(np.full(8, np.inf, np.float32))
        return scores

    monkeypatch.setattr(loop.Loop, "epoch", spoiling)
    monkeypatch.setattr(loop.Loop, "evaluate", lambda *_: loop.Scores(0.5, 0.5))
    message = run_stage("train").message
    assert "found NaN or infinity in the weights mlp/dense/bias after epoch 1" in message


def test_no_training_images_are_named(ready: Any, run_stage: Callable[[str], Any]) -> None:
    path = Path("data/normalized/train.npz")
    split = split_file.read(path)
    empty = split_file.Split(split.images[:0], split.labels[:0], ["low", "high"], [], 255.0)
    split_file.write(path, empty)
    message = run_stage("train").message
    assert message.startswith("data/normalized/train.npz: expected at least one training image")


@pytest.mark.parametrize("differs", ["shape", "classes"])
def test_splits_of_two_data_sets_are_refused(
    differs: str, ready: Any, run_stage: Callable[[str], Any]
) -> None:
    path = Path("data/normalized/validation.npz")
    split = split_file.read(path)
    images = split.images[:]
    images = images[:, :3] if differs == "shape" else images
    names = ["low", "high", "none"] if differs == "classes" else split.class_names
    split_file.write(path, split_file.Split(images, split.labels, names, [], 255.0))
    message = run_stage("train").message
    assert message.startswith("data/normalized/validation.npz: expected images (4, 4) of 2 classes")


@pytest.mark.parametrize("who", ["TensorFlow", "NumPy"])
@pytest.mark.parametrize("where", ["network", "training"])
def test_too_large_a_batch_for_the_memory_names_its_key(
    who: str,
    where: str,
    ready: Any,
    run_stage: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import tensorflow as tf

    def exhausted(*_: object) -> None:
        if who == "NumPy":
            raise MemoryError("OOM when allocating tensor\nmore")
        said = (
            "{{function_node __wrapped__X_device_/task:0/CPU:0}} OOM when allocating tensor\nmore"
        )
        raise tf.errors.ResourceExhaustedError(None, None, said)

    if where == "network":
        monkeypatch.setattr(architectures, "build", exhausted)
    monkeypatch.setattr(loop.Loop, "epoch", exhausted)
    message = run_stage("train").message
    key, what, step = {
        "network": ("model.mlp", "a network that fits", "Make it smaller"),
        "training": (
            "train.batch_size",
            "batches that fit",
            "Lower it, or make the model smaller,",
        ),
    }[where]
    assert message == (
        f"params.yaml: {key}: expected {what} into memory, found: OOM when allocating tensor.\n"
        f"{step} and run again."
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_progress_on_a_terminal_shows_epoch_training_and_the_time_left(ready: Any) -> None:
    import pty
    import termios

    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 100))
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.train"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TQDM_MININTERVAL": "0"},
        stdout=subprocess.PIPE,
        stderr=follower,
        text=True,
    )
    os.close(follower)
    shown = b""
    try:
        while part := os.read(leader, 65536):
            shown += part
    except OSError:  # what Linux says when the other end is closed
        pass
    os.close(leader)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, shown
    bars = [bar for bar in shown.decode().replace("\n", "\r").split("\r") if " left" in bar]
    for epoch in (1, 2, 3, 4):
        assert any(f"Epoch {epoch}/4" in bar and "100 %" in bar for bar in bars)
        assert f"Epoch {epoch}/4: loss " in out
    percents = [
        bar.partition(" %")[0].split()[-1] for bar in bars if bar.lstrip().startswith("Training")
    ]
    assert {"0", "25", "50", "75", "100"} <= set(percents)
    assert "loss 0." in bars[-2] + bars[-1]


def test_tqdm_is_imported_on_a_terminal_alone(ready: Any) -> None:
    code = (
        "import runpy, sys\n"
        "runpy.run_module('stages.train', run_name='__main__', alter_sys=True)\n"
        "print('tqdm' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.endswith("False\n"), done.stderr


def test_the_record_has_the_shapes_of_each_output_of_a_layer() -> None:
    import keras

    from stages import train

    one = keras.Input((28, 28))
    assert train.shape_of(one) == "28 x 28"
    assert train.shape_of([one, keras.Input((3,))]) == "28 x 28, 3"


def test_a_softmax_finds_a_name_beside_one_of_the_network() -> None:
    import keras

    from stages import train

    inputs = keras.Input((4,))
    logits = keras.layers.Dense(2)(keras.layers.Softmax(name="softmax")(inputs))
    made = train.with_output(keras.Model(inputs, logits), "softmax")
    assert [layer.name for layer in made.layers][-1] == "softmax_"


@pytest.mark.parametrize("ending", ["softmax", "temperature"])
def test_what_stands_behind_a_network_takes_what_its_own_call_computes(ending: str) -> None:
    import keras

    from stages import train
    from stages.lib.training import temperature

    class Inverted(keras.Model):
        def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
            return super().call(1 - inputs, training, mask)  # type: ignore[no-untyped-call]

    inputs = keras.Input((4,))
    logits_of = keras.layers.Dense(2)(inputs)
    network = Inverted(inputs, logits_of)  # type: ignore[no-untyped-call]
    images = np.random.default_rng(0).random((20, 4), np.float32)
    logits = np.asarray(network(images))
    if ending == "softmax":
        made = train.with_output(network, "softmax")
        expected = np.asarray(keras.ops.softmax(logits))
    else:
        made, found = temperature.calibrated(network, images, np.arange(20) % 2)
        expected = logits / found["temperature"]
    assert np.asarray(made(images)) == pytest.approx(expected, rel=1e-5)


OWN = """
import keras


@keras.saving.register_keras_serializable()
class Scale(keras.layers.Layer):
    def build(self, shape):
        self.factor = self.add_weight(shape=(), initializer="ones")

    def call(self, inputs):
        return inputs * self.factor


def build(input_shape, num_classes):
    BODY
    inputs = keras.Input(input_shape)
    x = Scale()(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Dense(num_classes)(x))
"""


OWN_NOISE = """
import keras
import tensorflow as tf


@keras.saving.register_keras_serializable()
class Noise(keras.layers.Layer):
    def call(self, inputs, training=False):
        return inputs + DRAWN if training else inputs


def build(input_shape, num_classes):
    inputs = keras.Input(input_shape)
    x = Noise()(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Dense(num_classes)(x))
"""
STOPPED = """
import runpy, sys
sys.orig_argv[:] = [sys.executable, "-m", "stages.train"]  # what it declares is known by this
from stages import train
fit_epoch = train.loop.Loop.epoch
def stopping(self, *arguments, done=[]):
    done.append(None)
    if len(done) == 3:
        raise KeyboardInterrupt
    return fit_epoch(self, *arguments)
train.loop.Loop.epoch = stopping
runpy.run_module("stages.train", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("drawn", "goes_on"),
    [
        ("tf.random.normal(tf.shape(inputs))", False),
        ("keras.random.normal(keras.ops.shape(inputs))", False),
        ("keras.random.normal(keras.ops.shape(inputs), seed=7)", True),
    ],
)
def test_chance_outside_of_the_model_never_leads_to_other_bytes(
    drawn: str, goes_on: bool, ready: Any, repository: Any
) -> None:
    (repository.path / "stages/models/own.py").write_text(OWN_NOISE.replace("DRAWN", drawn))
    shutil.copytree(ready.path / "data/normalized", repository.path / "data/normalized")
    (repository.path / "data/weights").mkdir()
    ready.params["model"] |= {"architecture": "own", "own": {}}
    (repository.path / "params.yaml").write_text(json.dumps(ready.params))

    def outputs() -> list[bytes]:
        return [(repository.path / name).read_bytes() for name in OUTPUTS]

    whole = repository.run("python", "-m", "stages.train")
    assert whole.code == 0, whole.err
    expected = outputs()
    assert ("outside of its variables" in whole.out) == (not goes_on)
    stopped = repository.run("python", "-c", STOPPED)
    assert stopped.code != 0
    again = repository.run("python", "-m", "stages.train")
    assert ("Going on after epoch 2" in again.out) == goes_on
    assert outputs() == expected


def test_a_module_that_makes_a_variable_when_it_is_imported_is_named(
    ready: Any, repository: Any
) -> None:
    code = "import keras\n\nGENERATOR = keras.random.SeedGenerator(1)\n"
    (repository.path / "stages/models/own.py").write_text(code + OWN.replace("BODY", "pass"))
    ready.params["model"] |= {"architecture": "own", "own": {}}
    (repository.path / "params.yaml").write_text(json.dumps(ready.params))
    trained = repository.run("python", "-m", "stages.train")
    assert trained.code == 1
    message = "ERROR: stages/models: expected tensors and variables to be made by functions, found"
    assert message in trained.err
    assert "Traceback" not in trained.err


@pytest.mark.parametrize("body", ["pass", "raise ValueError"])
def test_a_network_of_ones_own_is_trained_and_evaluated_or_keeps_its_traceback(
    body: str, ready: Any, repository: Any
) -> None:
    (repository.path / "stages/models/own.py").write_text(OWN.replace("BODY", body))
    shutil.copytree(ready.path / "data/normalized", repository.path / "data/normalized")
    (repository.path / "data/weights").mkdir()
    ready.params["model"] |= {"architecture": "own", "own": {}}
    (repository.path / "params.yaml").write_text(json.dumps(ready.params))
    trained = repository.run("python", "-m", "stages.train")
    if body == "pass":
        assert trained.code == 0, trained.err
        evaluated = repository.run("python", "-m", "stages.evaluate")
        assert evaluated.code == 0, evaluated.err
        assert "Test accuracy" in evaluated.out
    else:
        assert "Traceback" in trained.err
        assert "own.py" in trained.err
        assert trained.err.endswith("ValueError\n")
