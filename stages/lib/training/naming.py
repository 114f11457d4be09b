"""Names of layers that are put before or behind a network."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def free(name: str, model: "keras.Model") -> str:
    """``name``, or with underscores behind it where the model or a layer of it is called so."""
    taken = {model.name, *(layer.name for layer in model.layers)}
    while name in taken:
        name += "_"
    return name
