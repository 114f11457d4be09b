"""The reference network in JAX: one compiled ``lax.scan`` an epoch, Adam written out."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def prepare(images: Any, labels: Any, threads: int) -> Callable[[], Callable[[Any], Any]]:
    """The training as a function that gives the prediction; XLA_FLAGS and taskset set threads."""
    del threads
    x_all, y_all = jnp.asarray(images.reshape(len(images), -1)), jnp.asarray(labels)
    keys = jax.random.split(jax.random.key(0), 3)
    initial = jax.nn.initializers.glorot_uniform()
    start = (
        initial(keys[0], (784, 128)),
        jnp.zeros(128),
        initial(keys[1], (128, 10)),
        jnp.zeros(10),
    )

    def logits(parameters: Any, x: Any, key: Any = None) -> Any:
        w1, b1, w2, b2 = parameters
        h = jax.nn.relu(x @ w1 + b1)
        if key is not None:
            h = jnp.where(jax.random.bernoulli(key, 0.8, h.shape), h / 0.8, 0)
        return h @ w2 + b2

    def loss(parameters: Any, x: Any, y: Any, key: Any) -> Any:
        logs = jax.nn.log_softmax(logits(parameters, x, key))
        return -jnp.take_along_axis(logs, y[:, None], 1).mean()

    def step(state: Any, chosen: Any) -> Any:
        parameters, mean, square, count, key = state
        key, own = jax.random.split(key)
        value, gradients = jax.value_and_grad(loss)(parameters, x_all[chosen], y_all[chosen], own)
        count = count + 1
        rate = 1e-3 * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        tree = jax.tree.map
        mean = tree(lambda m, g: m + 0.1 * (g - m), mean, gradients)
        square = tree(lambda v, g: v + 0.001 * (g * g - v), square, gradients)
        parameters = tree(
            lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-7), parameters, mean, square
        )
        return (parameters, mean, square, count, key), value

    @jax.jit  # type: ignore[untyped-decorator] # JAX is not installed where types are checked
    def run(state: Any, batches: Any) -> Any:
        return jax.lax.scan(step, state, batches)

    def train() -> Callable[[Any], Any]:
        zeros = jax.tree.map(jnp.zeros_like, start)
        state = (start, zeros, zeros, jnp.float32(0), keys[2])
        for epoch in range(5):
            order = np.random.default_rng([0, epoch]).permutation(len(x_all))
            state, losses = run(state, jnp.asarray(order.reshape(-1, 32)))
        jax.block_until_ready(losses)
        return lambda test: np.asarray(logits(state[0], test.reshape(len(test), -1)).argmax(1))

    return train
