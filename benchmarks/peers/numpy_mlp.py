"""The reference network by hand in NumPy: one flat parameter vector, all steps in place."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

EPOCHS, BATCH, HIDDEN, CLASSES = 5, 32, 128, 10
RATE, KEEP = np.float32(1e-3), np.float32(0.8)

Array = npt.NDArray[Any]


def views(vector: Array, inputs: int) -> list[Array]:
    """Both layers' weights and biases as parts of one vector."""
    shapes = [(inputs, HIDDEN), (HIDDEN,), (HIDDEN, CLASSES), (CLASSES,)]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    parts = np.split(vector, ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def prepare(images: Array, labels: Array, threads: int) -> Callable[[], Callable[[Array], Array]]:
    """The training as a function that gives the prediction; OMP_NUM_THREADS sets the threads."""
    del threads
    x_all = images.reshape(len(images), -1)
    count, inputs = x_all.shape
    size = inputs * HIDDEN + HIDDEN + HIDDEN * CLASSES + CLASSES

    def train() -> Callable[[Array], Array]:
        random = np.random.Generator(np.random.SFC64(0))
        parameters, gradients, mean, square, t = np.zeros((5, size), np.float32)
        w1, b1, w2, b2 = views(parameters, inputs)
        dw1, db1, dw2, db2 = views(gradients, inputs)
        for w in (w1, w2):
            w[:] = random.uniform(-1, 1, w.shape) * np.sqrt(6 / sum(w.shape))
        x, h = np.empty((BATCH, inputs), np.float32), np.empty((BATCH, HIDDEN), np.float32)
        keep, dh = np.empty_like(h), np.empty_like(h)
        z, rows = np.empty((BATCH, CLASSES), np.float32), np.arange(BATCH)
        step, loss, correct = 0, 0.0, 0
        for epoch in range(EPOCHS):
            order = np.random.default_rng([0, epoch]).permutation(count)
            for at in range(0, count - BATCH + 1, BATCH):
                chosen = order[at : at + BATCH]
                np.take(x_all, chosen, 0, out=x, mode="clip")
                y = labels[chosen]
                np.dot(x, w1, out=h)
                h += b1
                np.maximum(h, 0, out=h)
                random.random(out=keep, dtype=np.float32)
                np.multiply(keep < KEEP, 1 / KEEP, out=keep)
                h *= keep
                np.dot(h, w2, out=z)
                z += b2
                correct += int(np.count_nonzero(z.argmax(1) == y))
                z -= z.max(1, keepdims=True)
                right = z[rows, y]
                np.exp(z, out=z)
                total = z.sum(1, keepdims=True)
                loss += float((np.log(total[:, 0]) - right).sum())
                z /= total
                z[rows, y] -= 1
                z *= np.float32(1 / BATCH)
                np.dot(h.T, z, out=dw2)
                z.sum(0, out=db2)
                np.dot(z, w2.T, out=dh)
                dh *= keep
                dh *= h > 0
                np.dot(x.T, dh, out=dw1)
                dh.sum(0, out=db1)
                step += 1
                rate = np.float32(RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step))
                np.subtract(gradients, mean, out=t)
                t *= np.float32(0.1)
                mean += t
                np.multiply(gradients, gradients, out=t)
                t -= square
                t *= np.float32(0.001)
                square += t
                np.sqrt(square, out=t)
                t += np.float32(1e-7)
                np.divide(mean, t, out=t)
                t *= rate
                parameters -= t
        return lambda test: (np.maximum(test.reshape(len(test), -1) @ w1 + b1, 0) @ w2 + b2).argmax(
            1
        )

    return train
