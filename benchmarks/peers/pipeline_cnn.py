"""A small convolutional network in this project's training loop."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers import network
from stages.lib import runtime, stored_images
from stages.lib.training import loop, optimizers

with runtime.starting():
    import keras


def prepare(images: Any, labels: Any, threads: int) -> Callable[[], Callable[[Any], Any]]:
    """The training as a function that gives the prediction."""
    runtime.configure(threads, seed=1)
    own = stored_images.aligned_empty((network.IMAGES, 28, 28, 1), np.float32)
    own[...] = images[: network.IMAGES, ..., None]
    model: keras.Model = network.build()

    def train() -> Callable[[Any], Any]:
        optimizer = optimizers.make("adam", 0.0)
        training = loop.Loop(model, optimizer, loop.cross_entropy(10), network.BATCH)
        x, y = loop.as_tensor(own), loop.as_tensor(labels[: network.IMAGES].astype(np.int64))
        rates = np.full(-(-network.IMAGES // network.BATCH), 1e-3, np.float32)
        for epoch in range(network.EPOCHS):
            order = np.random.default_rng([1, epoch]).permutation(network.IMAGES)
            training.epoch(x, y, order, rates)
        return lambda test: model.predict(test[..., None], verbose=0).argmax(1)

    return train
