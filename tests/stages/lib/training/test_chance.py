"""Tests of stages/lib/training/chance.py."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stages.lib.training import chance

pytestmark = pytest.mark.usefixtures("tensorflow")


RANDOM = np.random.default_rng()


def layer(kind: str) -> Any:
    """A layer of one's own that adds noise of a kind in training."""
    import keras
    import tensorflow as tf

    outside = tf.Variable(1.0)

    class Noise(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.own = keras.random.SeedGenerator(1)
            self.counter = self.add_weight(shape=(), trainable=False)  # type: ignore[no-untyped-call]

        def call(self, x: Any, training: bool = False) -> Any:
            if not training:
                return x
            if kind == "counter":
                self.counter.assign_add(1.0)
                return x * self.counter
            if kind == "outside":
                return x * outside.assign_add(1.0)
            if kind == "constant":
                return x * outside
            if kind == "divides":
                return keras.ops.reshape(keras.ops.reshape(x, (4, -1, 16)), (-1, 16))
            noises: dict[str, Callable[[], Any]] = {
                "generator": lambda: keras.random.normal(keras.ops.shape(x), seed=self.own),
                "none": lambda: 0.0,
                "seedless": lambda: keras.random.normal(keras.ops.shape(x)),
                "tensorflow": lambda: tf.random.normal(tf.shape(x)),
                "in a branch": lambda: tf.cond(
                    tf.reduce_sum(x) > 0, lambda: tf.random.uniform(()), lambda: 0.0
                ),
                "shuffled": lambda: tf.random.shuffle(x),
            }
            return x + noises[kind]()

    return Noise()


def network(kind: str) -> Any:
    import keras

    inputs = keras.Input((4, 4))
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(inputs))
    if kind != "of Keras alone":
        x = layer(kind)(x)
    return keras.Model(inputs, keras.layers.Dense(2)(x))


@pytest.mark.parametrize("kind", ["of Keras alone", "none", "generator", "counter", "divides"])
def test_what_lies_in_variables_of_the_model_is_kept(kind: str) -> None:
    assert chance.is_kept(network(kind), 8)


def test_a_constant_outside_is_no_state() -> None:
    import keras

    inputs = keras.Input((4, 4))
    x = layer("constant")(keras.layers.Flatten()(inputs))
    assert chance.is_kept(keras.Model(inputs, keras.layers.Dense(2)(x)), 8)


@pytest.mark.parametrize("kind", ["seedless", "tensorflow", "in a branch", "shuffled", "outside"])
def test_what_lies_elsewhere_is_not(kind: str) -> None:
    assert not chance.is_kept(network(kind), 8)


def test_python_that_a_step_calls_is_not() -> None:
    import keras
    import tensorflow as tf

    class Own(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            drawn = tf.numpy_function(lambda a: a + RANDOM.random(), [x], tf.float32)
            return tf.ensure_shape(drawn, x.shape)

    own = Own()  # type: ignore[no-untyped-call]
    inputs = keras.Input((4, 4))
    outputs = keras.layers.Dense(2)(own(keras.layers.Flatten()(inputs)))
    assert not chance.is_kept(keras.Model(inputs, outputs), 8)
