"""Layers that are put before or behind a network, and their names."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def free(name: str, model: "keras.Model") -> str:
    """``name``, or with underscores behind it where the model or a part of it is called so."""
    parts = getattr(model, "operations", model.layers)  # those of keras.ops have names too
    taken = {model.name, *(part.name for part in parts)}
    while name in taken:
        name += "_"
    return name


def ended_by(layer: "keras.layers.Layer", model: "keras.Model") -> "keras.Model":
    """A model with one more layer behind its output.

    A class of one's own may compute something else in its ``call`` than Keras's graph of it says.
    """
    import keras

    if type(model).__module__.startswith("keras."):
        return keras.Model(model.inputs[0], layer(model.outputs[0]), name=model.name)
    inputs = keras.Input(model.input_shape[1:])
    return keras.Model(inputs, layer(model(inputs)), name=model.name)
