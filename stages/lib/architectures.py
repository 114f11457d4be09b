"""The architectures of stages/models/, found by their file names."""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from stages.lib import model_file
from stages.lib.core import config
from stages.lib.core.errors import UserError

if TYPE_CHECKING:
    import keras

FOLDER = Path(__file__).parents[1] / "models"
_OWN = ("train_step", "test_step", "compute_loss")  # methods of a model that are not called
_UNCHANGING = ("activation", "dropout", "flatten", "identity", "reshape")  # layers, at inference


def builder(architecture: str) -> "Callable[..., keras.Model]":
    """The ``build`` of an architecture: input shape, number of classes and its own arguments.

    Raises:
        UserError: There is no module of that name, or it has no such function.
    """
    return _build(_module(architecture), architecture)


def build(
    architecture: str, input_shape: tuple[int, ...], num_classes: int, arguments: dict[str, Any]
) -> "keras.Model":
    """An untrained Keras model of an architecture, N x input_shape to N x K logits.

    An exception of the architecture's own code passes as it is, with its traceback. What only the
    arguments together show, the function ``problem`` of its module may say, if it has one: the
    name of an argument, what was expected and what was found.

    Raises:
        UserError: The arguments do not fit each other; or the model does not fit the data set
            or does not end in logits.
    """
    module = _module(architecture)
    problem = module.problem(**arguments) if hasattr(module, "problem") else None
    if problem:
        raise UserError(
            f"{config.PARAMS}: model.{architecture}.{problem}.\nCorrect it and run again."
        )
    model = _build(module, architecture)(input_shape, num_classes, **arguments)
    where = f"stages/models/{architecture}.py: build"
    if mismatch := mismatch_of(model, input_shape, num_classes):
        raise UserError(f"{where}: expected {mismatch}.\nMend it and run again.")
    if own := next((name for name in _OWN if _overrides(model, name)), None):
        raise UserError(
            f"{where}: expected a model that leaves the training to train, found a {own} of its "
            "own.\nLeave it out, as it is never called; a layer adds to the loss by add_loss."
        )
    if probabilities := _probabilities(model.outputs[0]):
        raise UserError(
            f"{where}: expected a model that ends in logits, found {probabilities} at its end.\n"
            "Leave it out; `model.output: softmax` in params.yaml adds one after the training."
        )
    return model


def refuse_idle(architecture: str, model: "keras.Model") -> None:
    """Checks that there is something to train in a model of an architecture.

    Raises:
        UserError: Every layer is frozen, or none has weights.
    """
    if not model.trainable_variables:
        raise UserError(
            f"stages/models/{architecture}.py: build: expected weights that a training changes, "
            "found none.\nLeave `trainable` of the model and its layers as it is, and run again."
        )


def refuse_unloadable(architecture: str, model: "keras.Model") -> None:
    """Checks that a model of an architecture loads again once it is saved.

    Call it before the training, which would be lost else, and outside of a strategy's scope.

    Raises:
        UserError: It does not.
    """
    if obstacle := model_file.obstacle_to_loading(model):
        raise UserError(
            f"stages/models/{architecture}.py: build: expected a model that loads again once it is "
            f"saved, found: {obstacle}.\nWrite each layer of your own as a class whose get_config "
            "names all its arguments, below @keras.saving.register_keras_serializable()."
        )


def mismatch_of(model: object, input_shape: tuple[int, ...], num_classes: int) -> str | None:
    """What was expected of a classifier and what it is instead, or None where it fits.

    Args:
        model: What should be a Keras model of one input and one output.
        input_shape: H x W or H x W x C of one image.
        num_classes: K.
    """
    import keras

    if not isinstance(model, keras.Model):
        return f"a keras.Model, found {type(model).__name__}"
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        return (
            "a model of known shapes, keras.Model(inputs, outputs) from "
            f"inputs = keras.Input(input_shape) on, found {type(model).__name__} without them"
        )
    for what in ("input", "output"):
        if isinstance(getattr(model, what, None), dict):
            return f"a tensor as {what}, found a dict"
    if len(inputs) != 1 or len(outputs) != 1:
        return f"one input and one output, found {len(inputs)} and {len(outputs)}"
    if tuple(inputs[0].shape) != (None, *input_shape):
        return f"images {input_shape} as input, found {tuple(inputs[0].shape)[1:]}"
    if tuple(outputs[0].shape) != (None, num_classes):
        found = tuple(outputs[0].shape)[1:]
        return f"{num_classes} outputs, one a class, found outputs of shape {found}"
    types = ("float32", keras.config.dtype_policy().compute_dtype)
    if inputs[0].dtype not in types:
        return f"images of float32 as input, found {inputs[0].dtype}, to which they would be cut"
    if outputs[0].dtype not in types:
        return f"outputs of float32, found {outputs[0].dtype}"
    return None


def _build(module: ModuleType, architecture: str) -> "Callable[..., keras.Model]":
    build: Callable[..., keras.Model] | None = getattr(module, "build", None)
    if not inspect.isfunction(build):
        found = "none"
    else:
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = inspect.signature(build).parameters.values()
        names = [each.name for each in parameters if each.kind in positional]
        any_number = any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters)
        if len(names) == 2 or (any_number and len(names) < 2):
            return build
        found = f"build({', '.join(names)})"
    raise UserError(
        f"stages/models/{architecture}.py: expected a function build(input_shape, num_classes, *, "
        f"...), with arguments of its own after the *, found {found}.\nCorrect it and run again."
    )


def _module(architecture: str) -> ModuleType:
    names = [path.stem for path in FOLDER.glob("[!_]*.py")]
    config.one_of(architecture, names, f"{config.PARAMS}: model.architecture")
    return importlib.import_module(f"stages.models.{architecture}")


def _overrides(model: "keras.Model", name: str) -> bool:
    """Whether the class of a model has a method of its own instead of Keras's."""
    return not str(getattr(type(model), name).__module__).startswith("keras.")


def _probabilities(tensor: Any) -> str | None:
    """The name of a softmax or sigmoid that an output comes from, or None where it is neither.

    Layers behind it that change no value are passed over.
    """
    while True:
        last, node, index = tensor._keras_history
        if getattr(last, "outputs", None):  # a model within, of known shapes
            return _probabilities(last.outputs[index])
        activation = getattr(getattr(last, "activation", None), "__name__", "")
        kind = type(last).__name__.lower()
        for name in ("softmax", "sigmoid"):
            if name in (activation, kind):
                return name
        before = last._inbound_nodes[node].input_tensors
        if kind not in _UNCHANGING or activation not in ("", "linear") or len(before) != 1:
            return None
        tensor = before[0]
