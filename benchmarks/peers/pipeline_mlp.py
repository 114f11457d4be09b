"""The reference network in this project's training loop, as the train stage runs it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from stages.lib import runtime, stored_images
from stages.lib.training import loop, optimizers
from stages.models import mlp

with runtime.starting():
    import keras


def prepare(images: Any, labels: Any, threads: int) -> Callable[[], Callable[[Any], Any]]:
    """The training as a function that gives the prediction."""
    runtime.configure(threads, seed=1)
    own = stored_images.aligned_empty(images.shape, np.float32)  # as split_file reads them
    own[...] = images
    model: keras.Model = mlp.build((28, 28), 10, hidden_units=[128], dropout=0.2)

    def train() -> Callable[[Any], Any]:
        training = loop.Loop(model, optimizers.make("adam", 0.0), loop.cross_entropy(10), 32)
        x, y = loop.as_tensor(own), loop.as_tensor(labels.astype(np.int64))
        rates = np.full(-(-len(labels) // 32), 1e-3, np.float32)
        for epoch in range(5):
            order = np.random.default_rng([1, epoch]).permutation(len(labels))
            training.epoch(x, y, order, rates)
        return lambda test: model(test).numpy().argmax(1)

    return train
