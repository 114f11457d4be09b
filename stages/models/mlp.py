"""A multilayer perceptron: the network of the beginner tutorials."""

from typing import Annotated

import keras


def build(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    hidden_units: list[Annotated[int, "[1, 65536]"]],
    dropout: Annotated[float, "[0, 1)"],
) -> keras.Model:
    """A network of dense relu layers that ends in logits.

    Args:
        input_shape: H x W or H x W x C of one image.
        num_classes: K.
        hidden_units: The width of each hidden layer; none makes it a linear classifier.
        dropout: The fraction of each hidden layer's activations that training sets to 0.

    Returns:
        An untrained model, N x input_shape to N x K logits.
    """
    layers = [keras.Input(input_shape), keras.layers.Flatten()]
    for units in hidden_units:
        layers += [keras.layers.Dense(units, activation="relu"), keras.layers.Dropout(dropout)]
    return keras.Sequential([*layers, keras.layers.Dense(num_classes)], name="mlp")
