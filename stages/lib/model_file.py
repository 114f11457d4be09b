"""Keras model files: written with bytes that depend on the model alone, read back and checked.

What a model cannot tell itself, the names of its classes say, lies in the file's ``metadata.json``
under ``CLASSIFIER``. Keras passes over it; a file that Keras saves again no longer has it.
"""

import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from stages.lib.core import files
from stages.lib.core.errors import UserError

if TYPE_CHECKING:
    import keras

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip file can state
_METADATA = "metadata.json"  # Keras's own member of the zip file
CLASSIFIER = "classifier"


class Typical(msgspec.Struct, frozen=True):
    """What the training images have in common; F properties, B bounds.

    Attributes:
        properties: F names.
        lowest: F values, the lowest of a training image.
        highest: F values.
        mean: F values.
        precision: F x F, the inverse of their covariance.
        distances: B quantiles, from 0 to 1, of the training images' distances from the mean.
    """

    properties: list[str]
    lowest: list[float]
    highest: list[float]
    mean: list[float]
    precision: list[list[float]]
    distances: list[float]


class Metadata(msgspec.Struct, frozen=True):
    """What whoever uses a model has to know; K classes.

    Attributes:
        class_names: K names, in English.
        class_names_zh: K names in Chinese, or none.
        input_shape: H, W or H, W, C of one image, float32.
        input_range: The values of black and white, or of no and full colour.
        pixel_max: The raw value that became the upper end of the range.
        resize: How an image of another size is fitted: pad, crop or stretch.
        background: Around a padded image and behind a transparent one, as a value of the range.
        outputs: What the K outputs are; logits need a softmax.
        typical: What the training images have in common.
    """

    class_names: list[str]
    class_names_zh: list[str]
    input_shape: list[int]
    input_range: tuple[float, float]
    pixel_max: float
    resize: str
    background: float
    outputs: Literal["logits", "probabilities"]
    typical: Typical


def save(model: "keras.Model", path: Path, metadata: Metadata | None = None) -> None:
    """Writes an ordinary ``.keras`` file, equal bytes for equal models and metadata.

    Keras writes the time of saving into ``metadata.json`` and into the zip entries, and memory
    addresses as the identities of shared objects into ``config.json``. Here the time is the
    beginning of the zip format's, and the objects are numbered as they come.
    ``keras.saving.load_model`` reads the file as any other.
    """
    import keras

    with files.replacing(path) as temporary:
        as_saved = temporary.with_suffix(".keras")  # the suffix tells Keras the format
        try:
            keras.saving.save_model(model, as_saved)
            temporary.write_bytes(_reproducible(as_saved.read_bytes(), metadata))
        finally:
            as_saved.unlink(missing_ok=True)


def load(path: Path) -> "keras.Model":
    """The model of a ``.keras`` file.

    Layers of one's own load once the module that registers them is imported.

    Raises:
        UserError: The file is missing, damaged or no Keras model.
    """
    import keras

    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"{damaged} is damaged")
        model = keras.saving.load_model(path, compile=False)
        if not isinstance(model, keras.Model):
            raise TypeError(f"a saved {type(model).__name__}")
    except FileNotFoundError:
        raise files.missing(path) from None
    except Exception as error:  # whatever zipfile, h5py and Keras say to bytes of any kind
        if isinstance(error, OSError) and error.filename:  # it cannot be opened
            raise
        step = "Delete it and run `dvc repro`."
        if "Could not locate" in str(error):  # a class that nobody registered, in a whole file
            step = "Set model.architecture to the network that made it, which has its layers."
        raise UserError(
            f"{path.as_posix()}: expected a Keras model as train writes it, found: "
            f"{_first_words(error)}.\n{step}"
        ) from None
    return model


def read_metadata(path: Path) -> Metadata:
    """What the file of a model says about its classes, images and outputs; Keras is not needed.

    Raises:
        UserError: The file is missing, damaged, or another program saved it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            fields = json.loads(archive.read(_METADATA))
        if CLASSIFIER not in fields:
            raise ValueError(f"no {CLASSIFIER} in its {_METADATA}")
        return msgspec.convert(fields[CLASSIFIER], Metadata)
    except FileNotFoundError:
        raise files.missing(path) from None
    except Exception as error:  # whatever zipfile, json and msgspec say to bytes of any kind
        if isinstance(error, OSError) and error.filename:  # it cannot be opened
            raise
        raise UserError(
            f"{path.as_posix()}: expected a Keras model with class names as train writes it, "
            f"found: {_first_words(error)}.\n"
            "Run `dvc repro`; a file that Keras saved again has lost them."
        ) from None


def obstacle_to_loading(model: "keras.Model") -> str | None:
    """Why ``load`` would not read back what ``save`` wrote of a model, or None if it would.

    A model of Keras's own parts always loads, which takes a millisecond to see; any other one is
    saved and loaded on trial, at some hundredths of a second.
    """
    import keras

    try:
        if is_of_keras(model):
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trial.keras"
            keras.saving.save_model(model, path)
            loaded = keras.saving.load_model(path, compile=False)
        # Not all variables: the state of Dropout's chance among them is not part of a saved file
        pairs = zip(model.weights, loaded.weights, strict=True)
        if not all(np.array_equal(saved.numpy(), read.numpy()) for saved, read in pairs):
            return "other weights are loaded than were saved"
        if not _compute_alike(model, loaded):
            return "loaded, it computes something else"
    except Exception as error:  # whatever the author's layers and Keras raise
        return _first_words(error)
    return None


def _compute_alike(model: "keras.Model", loaded: "keras.Model") -> bool:
    """Whether two models give the same on noise; one that draws at inference is alike to any."""
    rng = np.random.default_rng(0)
    images = rng.random((4, *model.input_shape[1:]), np.float32)
    first, again, other = (np.asarray(each(images)) for each in (model, model, loaded))
    return not np.array_equal(first, again, equal_nan=True) or bool(
        np.allclose(first, other, rtol=1e-5, atol=1e-6, equal_nan=True)
    )


def not_finite(model: "keras.Model") -> str | None:
    """The path of the first variable that holds NaN or an infinity, or None."""
    for variable in model.variables:
        if not np.isfinite(variable.numpy()).all():
            return str(variable.path)
    return None


def is_of_keras(model: "keras.Model") -> bool:
    """Whether a model's configuration names no class and no function but Keras's own."""
    others: list[object] = []

    def collect(node: dict[str, Any]) -> dict[str, Any]:
        name, module = node.get("registered_name"), node.get("module") or ""
        if node.get("class_name") == "Lambda" or (name and not module.startswith("keras.")):
            others.append(name)
        return node

    json.loads(model.to_json(), object_hook=collect)
    return not others


def _first_words(error: Exception) -> str:
    """What an exception says, or rather the one that it came from, as part of one line."""
    origin: BaseException = error
    while cause := origin.__cause__ or origin.__context__:
        origin = cause
    sentence = " ".join(str(origin).split()).split(". ")[0].rstrip(".")
    return sentence[:160] or type(origin).__name__


def _reproducible(saved: bytes, own: Metadata | None) -> bytes:
    """The same zip file without times and memory addresses, and with metadata of our own."""
    added = {} if own is None else {CLASSIFIER: msgspec.to_builtins(own)}
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved)) as source, zipfile.ZipFile(result, "w") as target:
        for name in sorted(source.namelist()):
            content = source.read(name)
            if name == _METADATA:
                times = {"date_saved": "1980-01-01@00:00:00"}
                content = json.dumps({**json.loads(content), **times, **added}).encode()
            elif name == "config.json":
                content = _numbered(content)
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # else Windows writes another byte
            target.writestr(entry, content)
    return result.getvalue()


def _numbered(config: bytes) -> bytes:
    """A model's configuration with its shared objects numbered from 1."""
    numbers: dict[int, int] = {}

    def number(node: dict[str, Any]) -> dict[str, Any]:
        if "shared_object_id" in node:
            address = node["shared_object_id"]
            node["shared_object_id"] = numbers.setdefault(address, len(numbers) + 1)
        return node

    return json.dumps(json.loads(config, object_hook=number)).encode()
