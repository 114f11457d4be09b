"""Values that a training starts from instead of those drawn at random.

They come from a model of this project (``.keras``), or are the weights of a network of
keras.applications as Keras publishes them, without its top (``.h5``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.lib import model_file
from stages.lib.core import config, files
from stages.lib.core.errors import UserError

if TYPE_CHECKING:
    import keras

FOLDER = Path("data/weights")
SUMS = FOLDER / "SHA256SUMS"


def file(sums: str) -> Path | None:
    """The file that download brought for ``model.weights``; None where it names none.

    Args:
        sums: SHA-256 and name of the file as sha256sum writes them; empty where there is none.

    Raises:
        UserError: Download brought others, or the file is not there, or not that one.
    """
    listed = SUMS.read_text(encoding="utf-8", errors="replace") if SUMS.is_file() else ""
    if listed != sums:
        raise UserError(
            f"{SUMS.as_posix()}: expected what {config.WEIGHTS} has for model.weights, "
            f"{sums.strip()!r}, found {listed.strip()[:200]!r}.\n"
            "Run `dvc repro`, which runs download first."
        )
    if not sums:
        return None
    sha256, name = sums.rstrip("\n").split("  ", 1)
    path = FOLDER / name
    try:
        found = files.sha256(path)
    except FileNotFoundError:
        raise UserError(
            f"{path.as_posix()}: not found, though {config.WEIGHTS} names it.\n"
            "Run `dvc repro`, which runs download first."
        ) from None
    if found != sha256:
        raise UserError(
            f"{path.as_posix()}: expected the weights that model.weights names, SHA-256 "
            f"{sha256}, found {found}.\nRun `dvc repro`, which runs download first."
        )
    return path


def assign(model: keras.Model, path: Path, class_names: Sequence[str]) -> list[keras.layers.Layer]:
    """Gives a model the values of a file.

    Of a ``.keras`` file all are taken, in order; those of the last layer only where the file is of
    the same classes. A ``.h5`` file is that of the network of keras.applications within the model.
    Batch normalization in such a network is not trained, so that it keeps its statistics: those of
    a few small batches would spoil them.

    Args:
        model: Untrained.
        path: The file.
        class_names: K names.

    Returns:
        The layers that have the file's values, to be frozen, the last layer not among them.

    Raises:
        UserError: The file is of another network, or no such file.
    """
    import keras

    layers, network = in_order_of_calls(model), backbone(model)
    if path.suffix == ".keras":
        saved = in_order_of_calls(model_file.load(path))
        same_classes = model_file.read_metadata(path).class_names == list(class_names)
        if not same_classes and len(layers) < 2:
            raise UserError(
                f"{path.as_posix()}: model.weights: expected a network with weights below its last "
                f"layer, which alone keep those of a file of other classes; found {len(layers)} "
                "layer with weights.\nWrite the network as more than one layer, or set "
                "model.weights: none, and run again."
            )
        compared = slice(None if same_classes else -1)
        _refuse_other_network(layers[compared], saved[compared], path)
        for mine, its in zip(layers, saved, strict=True):
            if its is not saved[-1] or same_classes:
                mine.set_weights(its.get_weights())
                mine.trainable = its.trainable
        return layers[:-1]
    if network is None:
        raise UserError(
            f"{config.PARAMS}: model.weights: expected a .keras file for this architecture, found "
            f"{path.name}, weights of a network of keras.applications.\n"
            "Set model.architecture: pretrained, or name other weights."
        )
    try:
        network.load_weights(path)
    except (ValueError, OSError, KeyError) as error:  # what Keras and h5py say
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise UserError(
            f"{path.as_posix()}: expected the weights of {network.name} without its top, found: "
            f"{reason}.\nCorrect model.pretrained.backbone or model.weights, and run `dvc repro`."
        ) from None
    for layer in weighted_layers(network):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False  # Keras would not hand training=False on to it
    return weighted_layers(network)


def backbone(model: keras.Model) -> keras.Model | None:
    """The one network that a model holds as a layer; None where there is none, or several."""
    import keras

    inner = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return inner[0] if len(inner) == 1 else None


def weighted_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model that have weights, from input to output, also those of inner models."""
    import keras

    found: list[keras.layers.Layer] = []
    for layer in model.layers:
        inner = weighted_layers(layer) if isinstance(layer, keras.Model) else [layer]
        found += [each for each in inner if each.weights and each not in found]
    return found


def in_order_of_calls(model: keras.Model) -> list[keras.layers.Layer]:
    """``weighted_layers`` as they are called: a subclassed model has its own as they were made.

    Layers that are not called come first.
    """
    import keras

    layers, called = weighted_layers(model), list[keras.layers.Layer]()
    models = [each for each in model._flatten_layers() if isinstance(each, keras.Model)]
    if all(getattr(each, "outputs", None) for each in models):  # of known shapes, and so of order
        return layers

    def noting(layer: keras.layers.Layer) -> Callable[..., object]:
        plain: Callable[..., object] = layer.call

        def call(*arguments: object, **options: object) -> object:
            if layer not in called:
                called.append(layer)
            return plain(*arguments, **options)

        return call

    calls = {layer: layer.__dict__.get("call") for layer in layers}
    try:
        for layer in layers:
            layer.call = noting(layer)  # type: ignore[method-assign]
        model(keras.ops.zeros((1, *model.input_shape[1:])), training=False)
    finally:
        for layer, own in calls.items():
            if own is None:
                del layer.call
            else:
                layer.call = own  # type: ignore[method-assign]
    return sorted(layers, key=lambda layer: called.index(layer) if layer in called else -1)


def _refuse_other_network(
    layers: Sequence[keras.layers.Layer], saved: Sequence[keras.layers.Layer], path: Path
) -> None:
    def shapes(layer: keras.layers.Layer) -> list[tuple[int, ...]]:
        return [tuple(weight.shape) for weight in layer.weights]

    def short(layer: keras.layers.Layer) -> str:
        return f"{type(layer).__name__} {' '.join(str(shape) for shape in shapes(layer))}"

    difference = ""
    if len(layers) != len(saved):
        difference = f"{len(layers)} layers with weights, found {len(saved)}"
    for mine, its in zip(layers, saved, strict=False):
        if shapes(mine) != shapes(its) and not difference:
            difference = f"{short(mine)} for the layer {mine.name}, found {short(its)}"
    if difference:
        raise UserError(
            f"{path.as_posix()}: expected the weights of the configured network, {difference}.\n"
            "Set model as it was when that model was trained, or name other weights in "
            "model.weights, and run `dvc repro`."
        )
