"""Keras's optimizers by name, and the fused kernels that TensorFlow has for some of them."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import keras


# Stated here so that a name can be checked without Keras; a test holds them equal to Keras's.
Name = Literal[
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "ftrl",
    "lamb",
    "lion",
    "muon",
    "nadam",
    "rmsprop",
    "sgd",
]


def make(name: str, weight_decay: float) -> "keras.optimizers.Optimizer":
    """A Keras optimizer with its own defaults, by its lower-case name.

    Args:
        name: One of ``Name``.
        weight_decay: The fraction of every weight that a step of learning rate 1 takes off.
            Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019.
    """
    optimizer: keras.optimizers.Optimizer = _kinds()[name](weight_decay=weight_decay)
    if not weight_decay:
        optimizer.weight_decay = None  # some kinds refuse None, all of them work for 0
    return optimizer


def _kinds() -> "dict[str, type[keras.optimizers.Optimizer]]":
    """Keras's optimizers by their lower-case names."""
    import keras

    base = keras.optimizers.Optimizer
    others = (  # those that a name alone does not make: base, wrappers, one that swaps weights
        base,
        keras.optimizers.LossScaleOptimizer,
        keras.optimizers.MultiOptimizer,
        keras.optimizers.ScheduleFreeAdamW,
    )
    return {
        name.lower(): kind
        for name, kind in vars(keras.optimizers).items()
        if isinstance(kind, type) and issubclass(kind, base) and kind not in others
    }
