"""Whether all that a training goes on from is in the model's variables.

A layer of Keras draws random numbers by a generator whose state is a variable of the model, which a
checkpoint keeps. That of ``tf.random.normal``, or of NumPy in ``tf.numpy_function``, no checkpoint
keeps. What Python draws while a step is traced is a constant of the step, and is not seen here.
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
    r"|StatefulTruncatedNormal|SampleDistortedBoundingBox|(Eager)?PyFunc)\w*|\w+CandidateSampler"
)
# Those that change a resource; a table that is only looked up in is no state
_WRITING = re.compile(
    r"Assign\w*|ResourceScatter\w*|Rng\w*Skip|LookupTable(Insert|Remove|Import)\w*"
)


def is_kept(model: "keras.Model", batch_size: int) -> bool:
    """Whether a training step of a model depends on nothing but its variables and its inputs.

    A model of Keras's own layers does; one with others is traced to see it, without being run.

    Args:
        model: Built, N x H x W or N x H x W x C to N x K; outside of a strategy of replicas.
        batch_size: The number of images in a step, by which layers may divide.
    """
    import tensorflow as tf

    if model_file.is_of_keras(model):
        return True
    images = tf.TensorSpec((batch_size, *model.inputs[0].shape[1:]), model.inputs[0].dtype)
    traced = tf.function(lambda batch: model(batch, training=True), autograph=False)
    graph = traced.get_concrete_function(images).graph
    definition = graph.as_graph_def()
    bodies = (function.node_def for function in definition.library.function)
    operations = {node.op for node in itertools.chain(definition.node, *bodies)}
    own = {id(variable.value.handle) for variable in model.variables}
    taken = (tensor for tensor, _ in graph.captures if tensor.dtype == tf.resource)
    others = any(id(tensor) not in own for tensor in taken)
    changed = others and any(_WRITING.fullmatch(name) for name in operations)
    return not changed and not any(_STATEFUL.fullmatch(name) for name in operations)
