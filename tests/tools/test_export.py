import contextlib
import importlib.util
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stages.lib import split_file
from tests.conftest import ROOT, execute
from tests.tools import model_fixtures
from tools.export import __main__ as export
from tools.export import agreement, formats, latency

pytestmark = [
    pytest.mark.usefixtures("tensorflow", "project"),
    pytest.mark.filterwarnings("ignore"),  # of converters, about their own code
]
RUNTIMES = {"litert": "ai_edge_litert", "onnx": "onnxruntime"}


def needs(name: str) -> Any:
    """A format as a parameter, skipped where its packages are not installed."""
    kind = formats.FORMATS[name]
    missing = kind.missing() + [
        module
        for module in (RUNTIMES.get(name),)
        if module and not importlib.util.find_spec(module) and name == "litert"
    ]
    return pytest.param(
        name, marks=pytest.mark.skipif(bool(missing), reason=f"not installed: {missing}")
    )


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adds a format that is written in no time."""

    def write(model: Any, _: object, path: Path) -> None:
        opened.append(model)
        path.write_bytes(b"whole")

    opened: list[Any] = []
    kind = formats.Format(
        "Quick", "quick.bin", (), write, lambda *_: lambda x: opened[-1](x)[formats.OUTPUT].numpy()
    )
    monkeypatch.setitem(formats.FORMATS, "quick", kind)


def message(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The error of a command, which leaves no export."""
    assert export.main(arguments) == 1
    text = capsys.readouterr().err.partition("ERROR: ")[2].rstrip("\n")
    assert len(text.splitlines()) == 2, text
    assert not any(Path("exports").glob("*/*"))
    return text


@pytest.mark.parametrize("softmax", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_saved_model_and_litert_agree_and_carry_the_class_names(
    softmax: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    import tensorflow as tf

    model = model_fixtures.network(softmax=softmax)
    model_fixtures.put_model(model, "probabilities" if softmax else "logits")
    assert export.main(["saved_model", "litert"]) == 0
    test = split_file.read(Path("data/normalized/test.npz"))
    outputs = model(test.images, training=False).numpy()
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    expected = outputs if softmax else powers / powers.sum(axis=1, keepdims=True)
    serve = tf.saved_model.load("exports/saved_model/1").signatures["serving_default"]
    answer = serve(images=tf.constant(test.images))["probabilities"].numpy()
    assert answer == pytest.approx(expected, abs=1e-6)

    told = json.loads(Path("exports/saved_model/1/assets.extra/classifier.json").read_text("utf-8"))
    assert told["class_names"] == model_fixtures.NAMES
    assert told["outputs"] == "probabilities"
    assert told["input_range"] == [0, 1]
    with zipfile.ZipFile("exports/litert/model.tflite") as archive:
        assert archive.read("labels.txt").decode().split() == model_fixtures.NAMES
        assert json.loads(archive.read("classifier.json")) == told

    record = json.loads(Path("exports/formats.json").read_text())
    assert list(record["formats"]) == ["keras", "saved_model", "litert"]
    litert = record["formats"]["litert"]
    assert litert["images_compared"] == 40
    assert litert["labels_that_differ"] == 0
    assert litert["largest_difference"] < 1e-5
    assert litert["bytes"] == Path("exports/litert/model.tflite").stat().st_size
    assert 0 < litert["milliseconds"]["1"]["median"] <= litert["milliseconds"]["1"]["p95"]
    table = Path("exports/formats.md").read_text()
    assert "| SavedModel | exports/saved_model/1 |" in table
    assert table.strip() in capsys.readouterr().out


def test_an_export_in_the_mode_of_training_is_caught(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import keras

    def as_keras_does(model: Any, _: Any, path: Path) -> None:
        probabilities = keras.Sequential([model.trained, keras.layers.Softmax()])
        archive = keras.export.ExportArchive()
        archive.track(probabilities)
        archive.add_endpoint(
            "serve",
            lambda images: {formats.OUTPUT: probabilities(images, training=True)},
            input_signature=[keras.InputSpec(shape=(None, 6, 6), dtype="float32")],
        )
        archive.write_out(str(path), verbose=False)

    model_fixtures.put_model(model_fixtures.network())
    wrong = replace(formats.FORMATS["saved_model"], write=as_keras_does)
    monkeypatch.setitem(formats.FORMATS, "saved_model", wrong)
    text = message(capsys, "saved_model")
    assert text.startswith("exports/saved_model: expected the model's labels and probabilities")
    assert "of 40 labels that differ" in text


def test_an_export_that_does_not_run_is_an_error_and_others_are_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def invalid(_: object, __: object, path: Path) -> None:
        path.write_bytes(b"no graph")

    model_fixtures.put_model(model_fixtures.network())
    wrong = replace(formats.FORMATS["litert"], write=invalid)
    monkeypatch.setitem(formats.FORMATS, "litert", wrong)
    quick(monkeypatch)
    assert export.main(["litert", "quick"]) == 1
    error = capsys.readouterr().err
    assert "ERROR: exports/litert: expected a model that converts and runs, found: " in error
    assert not Path("exports/litert").exists()
    assert Path("exports/quick/quick.bin").read_bytes() == b"whole"
    record = json.loads(Path("exports/formats.json").read_text())
    assert list(record["formats"]) == ["keras", "quick"]


def test_a_failed_export_leaves_the_old_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nothing(*_: object) -> None:
        raise ValueError("no such operation")

    old = Path("exports/litert/model.tflite")
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    model_fixtures.put_model(model_fixtures.network())
    wrong = replace(formats.FORMATS["litert"], write=nothing)
    monkeypatch.setitem(formats.FORMATS, "litert", wrong)
    assert export.main(["litert"]) == 1
    printed = capsys.readouterr()
    assert "found: no such operation." in printed.err
    assert "exports/litert is still that of an earlier export.\n" in printed.out
    assert old.read_bytes() == b"old"


def test_of_tensorflow_s_many_lines_the_operation_is_named_and_where_it_is() -> None:
    text = """<unknown>:0: error: loc(callsite(fused["TensorListReserve:", "net/lstm/TensorArray@f"]
at fused["StatefulPartitionedCall:", "x"])): 'tf.TensorListReserve' op requires it to be static
<unknown>:0: note: loc(fused["StatefulPartitionedCall:", "x"]): called from"""
    said = "'tf.TensorListReserve' op requires it to be static, in net/lstm/TensorArray"
    assert export._reason(ValueError(text)) == said
    assert export._reason(ValueError("no  such\noperation.")) == "no such operation"
    assert export._reason(KeyError()) == "KeyError"


def test_missing_packages_are_named_with_the_line_that_installs_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = replace(formats.FORMATS["onnx"], packages=("numpy", "no-such-package"))
    monkeypatch.setitem(formats.FORMATS, "onnx", kind)
    text = message(capsys, "onnx")
    assert text.startswith("onnx: expected the packages numpy, no-such-package, found no no-such")
    assert "`pip install no-such-package`" in text


def test_without_formats_those_are_written_that_can_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = replace(formats.FORMATS["onnx"], packages=("no-such-package",))
    quick(monkeypatch)
    for name in set(formats.FORMATS) - {"onnx", "quick"}:
        monkeypatch.delitem(formats.FORMATS, name)
    monkeypatch.setitem(formats.FORMATS, "onnx", kind)
    model_fixtures.put_model(model_fixtures.network())
    assert export.main([]) == 0
    out = capsys.readouterr().out
    assert "onnx: left out; it takes `pip install no-such-package`." in out
    assert "quick: all 40 labels as the model's" in out


def test_an_unknown_format_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    text = message(capsys, "onx")
    assert text.startswith("onx: expected a format, one of ")
    assert all(name in text for name in formats.FORMATS)


def test_a_test_split_of_another_data_set_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    model_fixtures.put_model(model_fixtures.network())
    path = Path("data/normalized/test.npz")
    split_file.write(path, replace(split_file.read(path), class_names=["a", "b", "c"]))
    text = message(capsys, "litert")
    assert text.startswith("data/normalized/test.npz: expected images (6, 6) of the model's 3")


def test_labels_and_probabilities_are_compared_on_every_image() -> None:
    expected = np.full((2500, 2), 0.5)
    expected[:, 0] += np.linspace(0.1, 0.4, 2500)
    expected[:, 1] = 1 - expected[:, 0]
    images = np.arange(2500, dtype=np.float32)[:, None, None]

    def model(batch: Any) -> Any:
        return expected[batch[:, 0, 0].astype(int)]

    def answers(change: Callable[[Any], None]) -> agreement.Agreement:
        changed = expected.copy()
        change(changed)
        return agreement.compare(
            model, lambda batch: changed[batch[:, 0, 0].astype(int)].astype(np.float32), images
        )

    same = answers(lambda _: None)
    assert (same.images, same.labels, same.problem()) == (2500, 0, None)
    assert same.difference < 1e-7
    last = answers(lambda rows: rows.__setitem__(-1, [0.2, 0.8]))
    assert last.labels == 1
    assert last.difference == pytest.approx(0.7)
    assert "found 1 of 2500 labels that differ and probabilities that do by 0.7" in str(
        last.problem()
    )
    assert answers(lambda rows: rows.__setitem__(1200, np.nan)).problem()
    assert answers(lambda rows: rows.__setitem__(0, rows[0] + [-0.01, 0.01])).problem()


def test_two_equal_probabilities_may_change_places() -> None:
    model = np.array([[0.5, 0.5 - 1e-8]])
    swapped = np.array([[0.5 - 1e-7, 0.5]], np.float32)
    assert (
        agreement.compare(
            lambda _: model, lambda _: swapped, np.zeros((1, 1, 1), np.float32)
        ).problem()
        is None
    )


STANDALONE = {
    "litert": """
from ai_edge_litert.interpreter import Interpreter
import zipfile
told = json.loads(zipfile.ZipFile(path).read("classifier.json"))
runner = Interpreter(model_path=path).get_signature_runner()
probabilities = runner(images=images)["probabilities"]
""",
    "onnx": """
import onnxruntime
session = onnxruntime.InferenceSession(path)
told = json.loads(session.get_modelmeta().custom_metadata_map["classifier"])
(probabilities,) = session.run(["probabilities"], {"images": images})
""",
}


@pytest.mark.parametrize("name", [needs("litert"), needs("onnx")])
def test_a_runtime_alone_gives_class_and_probability(name: str, tmp_path: Path) -> None:
    model = model_fixtures.network()
    model_fixtures.put_model(model)
    assert export.main([name]) == 0
    images = split_file.read(Path("data/normalized/test.npz")).images
    np.save(tmp_path / "images.npy", images[:])
    path = Path("exports", name, formats.FORMATS[name].file).resolve()
    script = (
        "import json, sys\nimport numpy as np\n"
        f"path, images = {str(path)!r}, np.load({str(tmp_path / 'images.npy')!r})\n"
        f"{STANDALONE[name]}"
        "assert not {'stages', 'tools', 'tensorflow', 'keras'} & set(sys.modules)\n"
        "names = [told['class_names'][label] for label in probabilities.argmax(axis=1)]\n"
        "print(json.dumps([names, probabilities.tolist()]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], cwd="/", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    names, probabilities = json.loads(done.stdout.splitlines()[-1])
    outputs = model(images, training=False).numpy()
    assert names == [model_fixtures.NAMES[label] for label in outputs.argmax(axis=1)]
    powers = np.exp(outputs)
    expected = powers / powers.sum(axis=1, keepdims=True)
    assert np.array(probabilities) == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [needs("onnx")])
def test_a_server_gives_the_probabilities_of_the_model(name: str) -> None:
    """By the commands and the client of docs/using-the-model.md."""
    pytest.importorskip("mlflow")
    page = (ROOT / "docs/using-the-model.md").read_text(encoding="utf-8").partition("## Served")[2]
    shell, client = re.findall(r"```(?:sh|python)\n(.*?)```", page, re.DOTALL)
    save, serve = shell.splitlines()[1:]
    model = model_fixtures.network()
    model_fixtures.put_model(model)
    assert export.main([name]) == 0
    images = split_file.read(Path("data/normalized/test.npz")).images
    done = execute(["sh", "-c", save], Path.cwd())
    assert done.code == 0, done.err
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with subprocess.Popen(
        serve.replace("5001", port).split(),
        env={**os.environ, "PATH": path},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as server:
        try:
            for _ in range(240):
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", int(port))).close()
                    break
                time.sleep(0.5)
            given = f"import numpy as np\nimages = np.array({images[:].tolist()}, np.float32)\n"
            script = given + client.replace("5001", port)
            done = execute([sys.executable, "-c", script], Path.cwd())
        finally:
            os.killpg(server.pid, signal.SIGTERM)
    assert done.code == 0, done.err
    powers = np.exp(model(images, training=False).numpy())
    expected = powers / powers.sum(axis=1, keepdims=True)
    assert np.array(json.loads(done.out)) == pytest.approx(expected, abs=1e-5)


def every_layer() -> Any:
    """The layers that the documentation names, and those that change images."""
    import keras

    layers = keras.layers
    return model_fixtures.network(
        layers.Rescaling(2.0, -1.0),
        layers.Resizing(12, 12),
        layers.CenterCrop(10, 10),
        layers.RandomFlip(),
        layers.RandomRotation(0.1),
        layers.RandomZoom(0.1),
        layers.GaussianNoise(0.1),
        layers.Conv2D(4, 3, padding="same", use_bias=False),
        model_fixtures.batch_normalization(),
        layers.ReLU(),
        layers.MaxPooling2D(),
        layers.DepthwiseConv2D(3, padding="same"),
        layers.SeparableConv2D(4, 3, padding="same", activation="silu"),
        layers.LayerNormalization(),
        layers.AveragePooling2D(1),
        layers.SpatialDropout2D(0.2),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [needs("saved_model"), needs("litert"), needs("onnx"), needs("openvino")]
)
def test_a_network_of_many_layers_agrees_in_every_format(name: str) -> None:
    model_fixtures.put_model(every_layer())
    assert export.main([name]) == 0
    found = json.loads(Path("exports/formats.json").read_text())["formats"][name]
    assert found["labels_that_differ"] == 0
    assert found["largest_difference"] < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", [needs("onnx")])
@pytest.mark.parametrize("kind", ["gelu", "normalization"])
def test_what_a_converter_does_not_know_is_an_error_and_no_file(
    kind: str, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    import keras

    layer: Any = keras.layers.Activation("gelu")
    if kind == "normalization":
        layer = keras.layers.Normalization(axis=None)
        layer.adapt(model_fixtures.images(50))
    model_fixtures.put_model(model_fixtures.network(layer))
    assert export.main([name]) == 1
    error = capfd.readouterr().err.partition("ERROR: ")[2]
    assert error.startswith("exports/onnx: expected a model that converts and runs, found: ")
    assert kind in error.lower() or "erfc" in error.lower()
    assert not Path("exports/onnx").exists()


@pytest.mark.parametrize("threads", ["0", "1025", "-1", "many"])
def test_a_number_of_threads_that_is_none(threads: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        export.main([f"--threads={threads}"])
    assert caught.value.code == 2
    assert f"expected 1 to 1024, found {threads}" in capsys.readouterr().err


def test_a_full_disk_is_told_in_two_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "_export_all", full)
    assert export.main([]) == 1
    message = "ERROR: No space left on device.\nFree some space and run again.\n"
    assert capsys.readouterr().err == message


def test_a_batch_that_is_not_there_has_no_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "_ROUNDS", 2)
    trained: Any = SimpleNamespace(probabilities=lambda batch: batch)
    for count, sizes in ((1, [1]), (20, [1, 20]), (50, [1, 32])):
        images = np.zeros((count, 2, 2), np.float32)
        (row,) = latency.measure(trained, {}, Path("exports"), images, 1)
        assert list(row.milliseconds) == sizes
        assert f"| {sizes[-1]} image" in latency.table([row], 1)


def test_latencies_are_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 0.25)  # every look at it takes a quarter of a second
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    found = latency._times({"a": lambda batch: batch}, np.zeros((1, 2, 2), np.float32))
    assert found == {"a": (250.0, 250.0)}
