"""Names of layers that are put before or behind a network."""

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
