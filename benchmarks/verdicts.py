"""How often `tools.compare` sees a difference where there is none, and finds one that is there.

    nice -n 10 python -m benchmarks.verdicts pool FOLDER     # trains, minutes; goes on where it was
    python -m benchmarks.verdicts table FOLDER               # writes benchmarks/verdicts.md

The pool holds trainings that differ in their seed alone, of small set-ups (the digits of scikit-learn
and 10,000 images of Fashion-MNIST; a multilayer perceptron and a short convolutional network).
Groups of them play both sides of a comparison. DATASET_MIRROR or a network is needed for
Fashion-MNIST, whose files are looked for in data/raw and in $DATASET_MIRROR/fashion_mnist.
"""

import argparse
import gzip
import itertools
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.lib.core import files
from stages.lib.core.errors import UserError

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "benchmarks/verdicts.md"
TRAINING_IMAGES = 10_000  # of Fashion-MNIST; its 10,000 test images are all scored

# name: data set, architecture and its arguments, epochs, learning rate, batch size, trainings
SETUPS: dict[str, tuple[str, str, dict[str, Any], int, float, int, int]] = {
    "digits-mlp": ("digits", "mlp", {"hidden_units": [64], "dropout": 0.0}, 10, 0.003, 32, 24),
    "digits-cnn": ("digits", "cnn", {"channels": [8, 16], "convolutions": [1, 1], "dropout": 0.0},
                   4, 0.003, 32, 24),
    "fashion-mlp": ("fashion", "mlp", {"hidden_units": [64], "dropout": 0.0}, 3, 0.001, 32, 24),
    "fashion-cnn": ("fashion", "cnn", {"channels": [8, 16], "convolutions": [1, 1], "dropout": 0.0},
                    2, 0.003, 64, 16),
    "fashion-mlp-512": ("fashion", "mlp", {"hidden_units": [512], "dropout": 0.0}, 3, 0.001, 32, 10),
    "fashion-mlp-5-epochs": ("fashion", "mlp", {"hidden_units": [64], "dropout": 0.0}, 5, 0.001, 32, 12),
}  # fmt: skip

Arrays = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


def idx(name: str) -> npt.NDArray[np.uint8]:
    """The array of a file of Fashion-MNIST."""
    folders = [ROOT / "data/raw", Path(os.environ.get("DATASET_MIRROR", ".")) / "fashion_mnist"]
    path = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if path is None:
        raise UserError(f"{name}: not found in data/raw or $DATASET_MIRROR/fashion_mnist")
    content = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(content, ">i4", content[3], 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def load(dataset: str) -> tuple[Arrays, Arrays]:
    """Training and test images, 0 to 1, with their labels."""
    if dataset == "fashion":
        train, test = (
            (
                idx(f"{part}-images-idx3-ubyte.gz").astype(np.float32) / 255,
                idx(f"{part}-labels-idx1-ubyte.gz").astype(np.int64),
            )
            for part in ("train", "t10k")
        )
        return (train[0][:TRAINING_IMAGES], train[1][:TRAINING_IMAGES]), test
    with np.load(next((ROOT / "data/embedded").glob("**/*.npz"))) as arrays:
        images, labels = (
            {part: arrays[f"{kind}_{part}"] for part in ("train", "test")}
            for kind in ("x", "y")
        )
    top = np.float32(max(part.max() for part in images.values()))
    return tuple(  # type: ignore[return-value]
        (images[part].astype(np.float32) / top, labels[part].astype(np.int64))
        for part in ("train", "test")
    )


def pool(folder: Path) -> None:
    """Trains what is missing, a file of test probabilities each."""
    import keras
    import tensorflow as tf

    from stages.lib import architectures
    from stages.lib.training import loop

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    began = time.process_time()
    for name, (dataset, architecture, arguments, epochs, rate, size, count) in SETUPS.items():
        missing = [s for s in range(1, count + 1) if not (folder / f"{name}-{s}.npz").exists()]
        if not missing:
            continue
        (images, labels), (test, actual) = load(dataset)
        tensors = loop.as_tensor(images), loop.as_tensor(labels)
        steps = -(-len(labels) // size)
        build = architectures.builder(architecture)
        for seed in missing:
            keras.utils.set_random_seed(seed)
            model = build(images.shape[1:], 10, **arguments)
            optimizer = keras.optimizers.Adam(rate)
            training = loop.Loop(model, optimizer, loop.cross_entropy(10), size, None, seed)
            for epoch in range(epochs):
                order = np.random.default_rng([seed, epoch]).permutation(len(labels))
                training.epoch(*tensors, order, np.full(steps, rate, np.float32))
            logits = np.concatenate(
                [np.asarray(model(test[at : at + 1000], training=False)) for at in range(0, len(test), 1000)]
            )
            odds = np.exp(logits - logits.max(axis=1, keepdims=True))
            probabilities = odds / odds.sum(axis=1, keepdims=True)
            accuracy = float((probabilities.argmax(axis=1) == actual).mean())
            np.savez(folder / f"{name}-{seed}.npz", probabilities=probabilities, actual=actual)
            print(f"{name} {seed}: {accuracy:.4f}, {time.process_time() - began:.0f} s", flush=True)
            keras.backend.clear_session()


if __name__ == "__main__":
    pool(Path(sys.argv[2]))
