"""Networks that compute in a shorter type while they train, with weights and logits in float32."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


@contextlib.contextmanager
def mixed(precision: str, seed: int) -> Iterator[None]:
    """The block in which networks are built that compute in a shorter type, ``bfloat16`` say.

    Their weights are float32 all the same, as drawn anew from the seed.
    """
    import keras

    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(f"mixed_{precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy("float32")


def keep_logits(model: "keras.Model") -> bool:
    """Lets what gives a model's logits compute in float32: its last layers up to one with weights.

    bfloat16 rounds a logit of 10 to a sixteenth, float16 to a hundredth, and the loss is one of
    differences of logits. A last layer that is made of other layers stays as it is: which of them
    is the last is not known; and all do where one of them does not compute in another type than it
    was built in.

    Args:
        model: A model of one output whose layers compute in a shorter type.

    Returns:
        Whether the logits are of float32 now.
    """
    import keras
    import tensorflow as tf

    layers = _last_layers(model)
    policies = [layer.dtype_policy for layer in layers]
    for layer in layers:
        layer.dtype_policy = "float32"
    try:
        logits = model(keras.ops.zeros((1, *model.input_shape[1:])), training=False)
    except (TypeError, ValueError, tf.errors.InvalidArgumentError):  # of two types that do not mix
        for layer, policy in zip(layers, policies, strict=True):
            layer.dtype_policy = policy
        return False
    return bool(logits.dtype == tf.float32)


def scaled(
    model: "keras.Model", optimizer: "keras.optimizers.Optimizer"
) -> "keras.optimizers.Optimizer":
    """The optimizer itself, or for a model that computes in float16 one around it.

    That one multiplies the loss by a factor and divides the gradients by it again, for float16
    knows no gradient below 6e-8. It halves the factor and leaves out the step where that makes
    gradients too large, and doubles it after 2,000 steps.
    Source: Micikevicius et al., Mixed Precision Training, 2018.
    """
    import keras

    if model.dtype_policy.compute_dtype != "float16":
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer)


def _last_layers(model: "keras.Model") -> list["keras.Layer"]:
    """The layers from a model's outputs back to those with weights, and models within them."""
    import keras

    found: list[keras.Layer] = []
    known: dict[tuple[int, int], bool] = {}  # by operation and node

    def goes_on(tensor: Any) -> bool:
        """Whether the way back from a tensor goes on before the inputs of its model."""
        operation, node, _ = tensor._keras_history
        key = id(operation), node
        if key not in known:
            known[key] = visit(operation, operation._inbound_nodes[node].input_tensors)
        return known[key]

    def any_goes_on(tensors: Iterable[Any]) -> bool:
        return True in [goes_on(tensor) for tensor in tensors]  # each of them is visited

    def visit(operation: Any, origins: Iterable[Any]) -> bool:
        if isinstance(operation, keras.layers.InputLayer):
            return True
        if getattr(operation, "outputs", None):  # a model within, of known shapes
            if not any_goes_on(operation.outputs):
                return False
            found.append(operation)
        elif isinstance(operation, keras.Layer):
            if len(list(operation._flatten_layers())) > 1:
                return False
            found.append(operation)
            if operation.weights:
                return False
        return any_goes_on(origins)

    any_goes_on(model.outputs)
    return found


def remark(precision: str, processor: Path = Path("/proc/cpuinfo")) -> str:
    """Why a training in a precision is slow here; empty where it is not, or nothing is known."""
    import tensorflow as tf

    if precision == "float32" or tf.config.list_physical_devices("GPU"):
        return ""
    if precision == "float16":
        return "float16 is for GPUs, and takes a processor up to hundreds of times as long"
    if not processor.is_file():
        return ""
    flags = processor.read_text(encoding="utf-8", errors="replace").split()
    if not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags) or "bf16" in flags:  # the last is ARM's
        return ""
    return "this processor has no instructions for bfloat16, and float32 is faster on it"
