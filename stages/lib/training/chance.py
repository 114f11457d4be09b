"""Whether all that a training goes on from is in the model's variables.

A layer of Keras draws random numbers by a generator whose state is a variable of the model, which a
checkpoint keeps. ``tf.random.normal`` and NumPy have states that no checkpoint keeps.
"""

import itertools
import re
from typing import TYPE_CHECKING

from stages.lib import model_file

if TYPE_CHECKING:
    import keras

# TensorFlow's operations that draw by a state of their own, and those that call Python
_STATEFUL = re.compile(
    r"(Random(Uniform|StandardNormal|Gamma|Poisson|Shuffle|Crop)|TruncatedNormal|Multinomial"
    r"|ParameterizedTruncatedNormal|StatefulRandom|StatefulUniform|StatefulStandardNormal"
    r"|StatefulTruncatedNormal|SampleDistortedBoundingBox|(Eager)?PyFunc)\w*"
)


def is_kept(model: "keras.Model") -> bool:
    """Whether a training step of a model depends on nothing but its variables and its inputs.

    A model of Keras's own layers does; one with others is traced to see it, without being run.

    Args:
        model: Built, N x H x W or N x H x W x C to N x K; outside of a strategy of replicas.
    """
    import tensorflow as tf

    if model_file.is_of_keras(model):
        return True
    images = tf.TensorSpec((1, *model.inputs[0].shape[1:]), model.inputs[0].dtype)
    traced = tf.function(lambda batch: model(batch, training=True), autograph=False)
    graph = traced.get_concrete_function(images).graph
    definition = graph.as_graph_def()
    bodies = (function.node_def for function in definition.library.function)
    nodes = itertools.chain(definition.node, *bodies)
    own = {id(variable.value.handle) for variable in model.variables}
    taken = (tensor for tensor, _ in graph.captures if tensor.dtype == tf.resource)
    return all(id(tensor) in own for tensor in taken) and not any(
        _STATEFUL.fullmatch(node.op) for node in nodes
    )
