"""The formats that a model is exported to: how each is written, and run by its own runtime."""

import importlib.util
import json
import logging
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from stages.lib import model_file, runtime

Images = npt.NDArray[np.float32]
Run = Callable[[Images], npt.NDArray[np.float32]]
INPUT, OUTPUT = "images", "probabilities"
NAME = "classifier.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip file can state


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        title: Its own name.
        file: The path of what a runtime loads, below the folder of the format.
        packages: What has to be installed to write and to check it, as pip names it.
        write: Writes a model, which gives probabilities, and its metadata.
        open: Gives the probabilities by the format's own runtime with a number of threads.
    """

    title: str
    file: str
    packages: tuple[str, ...]
    write: Callable[[Any, model_file.Metadata, Path], None]
    open: Callable[[Path, int], Run]

    def missing(self) -> list[str]:
        """The packages that are not installed."""
        return [
            name for name in self.packages if not importlib.util.find_spec(name.replace("-", "_"))
        ]


def with_probabilities(model: Any, metadata: model_file.Metadata) -> Any:
    """A model in the mode of inference that ends in probabilities, ready for ``export``.

    Keras 3.15 exports some layers, and batch normalization among them, in the mode of training
    when a layer that changes images stands before them; here the mode is named.
    """
    import keras

    class Inference(keras.Model):
        def call(self, images: Any) -> dict[str, Any]:
            outputs = model(images, training=False)
            if metadata.outputs == "logits":
                outputs = keras.ops.softmax(outputs)
            return {OUTPUT: outputs}

    inference: Any = Inference(name=model.name)  # type: ignore[no-untyped-call]
    inference.trained = model  # so that Keras knows its weights
    inference(np.zeros((1, *metadata.input_shape), np.float32))
    return inference


def as_json(metadata: model_file.Metadata) -> str:
    """The metadata of an export, whose outputs are probabilities."""
    changed = msgspec.structs.replace(metadata, outputs="probabilities")
    return json.dumps(msgspec.to_builtins(changed), ensure_ascii=False)


def _export(model: Any, metadata: model_file.Metadata, path: Path, kind: str, **more: Any) -> None:
    import keras

    shape = (None, *metadata.input_shape)
    signature = [keras.InputSpec(shape=shape, dtype="float32", name=INPUT)]
    with _silently():
        model.export(str(path), format=kind, verbose=False, input_signature=signature, **more)


@contextmanager
def _silently() -> Iterator[None]:
    """Keeps back what converters print and warn of; what they raise is told."""
    logging.disable()
    try:
        with warnings.catch_warnings(), runtime.quietly():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _write_saved_model(model: Any, metadata: model_file.Metadata, path: Path) -> None:
    _export(model, metadata, path, "tf_saved_model")
    extra = path / "assets.extra"  # where TensorFlow keeps what its loaders pass over
    extra.mkdir()
    (extra / NAME).write_text(as_json(metadata) + "\n", encoding="utf-8", newline="\n")


def _open_saved_model(path: Path, _: int) -> Run:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))  # with the threads of this process
    return lambda images: np.asarray(loaded.serve(images)[OUTPUT])


def _write_litert(model: Any, metadata: model_file.Metadata, path: Path) -> None:
    """Writes the model with its associated files: a zip file at its end, as LiteRT has them."""
    import tensorflow as tf

    own = [tf.lite.OpsSet.TFLITE_BUILTINS]  # else a part of TensorFlow may be needed to run it
    _export(model, metadata, path, "litert", target_spec={"supported_ops": own})
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in (
            ("labels.txt", "".join(f"{label}\n" for label in metadata.class_names)),
            (NAME, as_json(metadata) + "\n"),
        ):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # else Windows writes another byte
            archive.writestr(entry, text)


def _open_litert(path: Path, threads: int) -> Run:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter  # noqa: N806 the same code, while TensorFlow has it
    with _silently():
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        given = interpreter.get_input_details()[0]["index"]
        wanted = interpreter.get_output_details()[0]["index"]

    def run(images: Images) -> npt.NDArray[np.float32]:
        if tuple(interpreter.get_input_details()[0]["shape"]) != images.shape:
            interpreter.resize_tensor_input(given, images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given, images)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(wanted))

    return run


def _write_onnx(model: Any, metadata: model_file.Metadata, path: Path) -> None:
    import onnx

    _export(model, metadata, path, "onnx")
    exported = onnx.load(path)
    properties = {
        "classifier": as_json(metadata),
        "Image.NominalPixelRange": "NormalizedRange_0_1",  # of ONNX's own metadata for images
    }
    onnx.helper.set_model_props(exported, properties)
    onnx.checker.check_model(exported)
    onnx.save(exported, path)


def _open_onnx(path: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: np.asarray(session.run(None, {name: images})[0])


def _write_openvino(model: Any, metadata: model_file.Metadata, path: Path) -> None:
    import openvino

    plain = path.with_name("plain")
    _export(model, metadata, plain / path.name, "openvino")
    exported = openvino.Core().read_model(plain / path.name)
    exported.set_rt_info(as_json(metadata), "classifier")
    openvino.save_model(exported, path, compress_to_fp16=False)
    del exported
    shutil.rmtree(plain)


def _open_openvino(path: Path, threads: int) -> Run:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    return lambda images: np.asarray(compiled([images])[0])


# A format is one entry here.
FORMATS = {
    "saved_model": Format(  # TensorFlow Serving wants the folder of a model to hold its versions
        "SavedModel", "1", (), _write_saved_model, _open_saved_model
    ),
    "litert": Format("LiteRT", "model.tflite", (), _write_litert, _open_litert),
    "onnx": Format(
        "ONNX", "model.onnx", ("tf2onnx", "onnx", "onnxruntime"), _write_onnx, _open_onnx
    ),
    "openvino": Format(
        "OpenVINO", "model.xml", ("openvino", "scipy"), _write_openvino, _open_openvino
    ),
}
