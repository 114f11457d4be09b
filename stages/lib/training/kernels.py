"""TensorFlow's fused kernels for Keras objects: same formulas and variables, one pass over memory.

Keras 3 writes optimizers and batch normalization as a dozen small operations each. ``fuse``
replaces, on the objects themselves, the method that holds the formula; clipping, weight decay,
schedules, averages, constraints, checkpoints and saved files stay Keras's. What has no kernel of
the same formula is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    Update = Callable[[tf.Tensor, tf.Variable, tf.Tensor], None]


def fuse(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Makes training of ``model`` use fused kernels where there are any."""
    import keras

    updates = {
        keras.optimizers.Adam: _adam,
        keras.optimizers.AdamW: _adam,
        keras.optimizers.SGD: _sgd,
    }
    kind = type(optimizer)  # not isinstance: a subclass may have another formula
    if kind in updates and not getattr(optimizer, "amsgrad", False):
        optimizer.update_step = updates[kind](optimizer)  # type: ignore[method-assign]
    for layer in model._flatten_layers():
        if type(layer) is keras.layers.BatchNormalization and _is_plain(layer):
            layer.call = _batch_norm(layer)  # type: ignore[method-assign]


def _adam(optimizer: keras.optimizers.Adam) -> Update:
    """Adam's update. Source: Kingma and Ba, Adam, 2015, end of section 2."""
    import tensorflow as tf

    def update(gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        index = optimizer._get_variable_index(variable)
        step = tf.cast(optimizer.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=optimizer._momentums[index].value.handle,
            v=optimizer._velocities[index].value.handle,
            beta1_power=tf.pow(tf.cast(optimizer.beta_1, variable.dtype), step),
            beta2_power=tf.pow(tf.cast(optimizer.beta_2, variable.dtype), step),
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=optimizer.beta_1,
            beta2=optimizer.beta_2,
            epsilon=optimizer.epsilon,
            grad=tf.cast(gradient, variable.dtype),
        )

    return update


def _sgd(optimizer: keras.optimizers.SGD) -> Update:
    """Gradient descent's update with or without (Nesterov) momentum."""
    import tensorflow as tf

    def update(gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        rate = tf.cast(learning_rate, variable.dtype)
        gradient = tf.cast(gradient, variable.dtype)
        if not optimizer.momentum:
            tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=rate, delta=gradient)
            return
        index = optimizer._get_variable_index(variable)
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=optimizer.momentums[index].value.handle,
            lr=rate,
            grad=gradient,
            momentum=optimizer.momentum,
            use_nesterov=optimizer.nesterov,
        )

    return update


def _is_plain(layer: keras.layers.BatchNormalization) -> bool:
    """Whether batch normalization is over images' last axis and nothing special.

    ``layer.input`` would say so too, and not of a layer that is part of another.
    """
    special = layer.renorm or layer.synchronized or not (layer.scale and layer.center)
    special = special or layer.variable_dtype != "float32"
    return bool(
        layer.built and not special and layer.input_spec.ndim == 4 and layer.axis in (-1, 3)
    )


def _batch_norm(layer: keras.layers.BatchNormalization) -> Callable[..., tf.Tensor]:
    """The layer's ``call`` with a fused kernel in training, also of a layer of mixed precision."""
    import tensorflow as tf

    plain: Callable[..., tf.Tensor] = layer.call
    gamma, beta, *averages = cast(  # None only in a layer without scale and center, or not built
        "list[keras.Variable]", [layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance]
    )

    def call(
        inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        known = mask is None and inputs.dtype in (tf.float32, tf.bfloat16, tf.float16)
        if not (training and layer.trainable and known):
            return plain(inputs, training=training, mask=mask)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=gamma.value,
            offset=beta.value,
            mean=[],
            variance=[],
            epsilon=layer.epsilon,
            is_training=True,
        )
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
        variance *= (count - 1) / count  # the kernel divides by count - 1, Keras by count
        for moving, batch in zip(averages, (mean, variance), strict=True):
            moving.assign(moving * layer.momentum + batch * (1 - layer.momentum))
        return outputs

    return call
