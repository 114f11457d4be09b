"""Convolutional trainings beside their bare convolutions and matrix products, and beside peers.

    python -m benchmarks.convolutions [--rounds 5] [--threads 2] [--peers PYTHON]

The networks are those of the convolutional recipes, on 60,000 images of noise. PYTHON is an
interpreter that has benchmarks/requirements.txt; without one PyTorch is left out. Each row is
measured in processes of its own, all of them in turn; a process takes 100 steps that are not
measured, and then five times 100 that are. PyTorch is measured as it is, and where the C library is
told to keep the memory that it frees: with as many images it gives it back and takes it anew at
every step otherwise. The bare operations are TensorFlow's own, of the network's sizes: each
convolution and matrix product forward, and backward to its weights and, but for the first, to its
inputs. The tables go to the standard output.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import yaml

from benchmarks import machine, side_by_side
from benchmarks.side_by_side import ROOT

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

RECIPES = ("fashion-cnn", "mnist-cnn")
IMAGES, STEPS, EPOCHS = 60_000, 100, 5
BARE = "bare operations"
ROWS = {  # name in the table: how it is trained
    BARE: "bare",
    "this project, without augmentation": "plain",
    "this project": "augmented",
    "this project, bfloat16": "bfloat16",
    "`model.fit`, without augmentation": "fit",
}
TORCH = "PyTorch, without augmentation"
TORCH_KEPT = f"{TORCH}, memory kept"
KEPT = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "268435456"}  # of glibc


@dataclass(frozen=True)
class Case:
    """A recipe and how it is trained."""

    recipe: str
    way: str
    threads: int

    @property
    def params(self) -> dict[str, Any]:
        """The recipe's parameters."""
        path = ROOT / f"recipes/{self.recipe}.yaml"
        params: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        return params


def noise(count: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Images (count x 28 x 28, 0 to 1) and labels (count)."""
    from stages.lib import stored_images

    rng = np.random.default_rng(0)
    images = stored_images.aligned_empty((count, 28, 28), np.float32)
    images[...] = rng.random(images.shape, np.float32)
    return images, rng.integers(0, 10, count)


def epochs(case: Case) -> list[float]:
    """The seconds of each epoch of ``STEPS`` steps but the first, in this process."""
    from stages.lib import runtime

    with runtime.starting():
        from stages.models import cnn
    params = case.params
    size = params["train"]["batch_size"]
    images, labels = noise(IMAGES)
    runtime.configure(case.threads, seed=1)
    build = partial(cnn.build, (28, 28), 10, **params["model"]["cnn"])
    if case.way == "bare":
        epoch: Callable[[], object] = bare(build(), size)
    elif case.way == "fit":
        used = STEPS * size
        epoch = fitted(build(), params["train"], images[:used], labels[:used])
    else:
        epoch = trained(build, params["train"], images, labels, case.way)
    epoch()
    return [side_by_side.seconds(epoch) for _ in range(EPOCHS)]


def trained(
    build: Callable[[], keras.Model],
    train: dict[str, Any],
    images: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    way: str,
) -> Callable[[], object]:
    """An epoch of this project's loop."""
    from stages.lib.training import augmentation, loop, optimizers, precision

    scored = model = build()
    if way == "bfloat16":
        with precision.mixed(way, 1):
            model = build()
        precision.keep_logits(model)
    augment = augmentation.make(augmentation.Augmentation(**train["augmentation"]))
    size, count = train["batch_size"], len(labels)
    training = loop.Loop(
        model,
        optimizers.make(train["optimizer"], train["weight_decay"]),
        loop.cross_entropy(10, train["label_smoothing"]),
        size,
        None if way == "plain" else augment,
        scored=scored,
    )
    x, y = loop.as_tensor(images), loop.as_tensor(labels)
    rates = np.full(STEPS, 1e-3, np.float32)
    order = np.random.default_rng(1).permutation(count)[: STEPS * size]
    return lambda: training.epoch(x, y, order, rates)


def fitted(
    model: keras.Model,
    train: dict[str, Any],
    images: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
) -> Callable[[], object]:
    """An epoch of ``model.fit`` with the same optimizer and loss."""
    import keras

    optimizer = keras.optimizers.AdamW(1e-3, train["weight_decay"])
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=train["label_smoothing"]
    )
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])
    targets = keras.utils.to_categorical(labels, 10)
    return lambda: model.fit(images, targets, train["batch_size"], verbose=0)


def bare(model: keras.Model, batch_size: int) -> Callable[[], object]:
    """An epoch of nothing but the network's convolutions and matrix products on constant inputs.

    A step adds next to nothing of its results to the weights of the next, or TensorFlow would leave
    out what nobody uses.
    """
    import keras
    import tensorflow as tf

    kinds = (keras.layers.Conv2D, keras.layers.Dense)
    layers = [layer for layer in model.layers if isinstance(layer, kinds)]
    rng = np.random.default_rng(0)
    inputs = [
        tf.constant(rng.random((batch_size, *layer.input.shape[1:]), np.float32))
        for layer in layers
    ]

    def products(layer: keras.Layer, x: tf.Tensor, kernel: tf.Tensor) -> list[tf.Tensor]:
        if isinstance(layer, keras.layers.Dense):
            y = tf.matmul(x, kernel)
            return [tf.matmul(x, y, transpose_a=True), tf.matmul(y, kernel, transpose_b=True)]
        how = {"strides": [1, *layer.strides, 1], "padding": layer.padding.upper()}
        y = tf.raw_ops.Conv2D(input=x, filter=kernel, **how)
        found = [
            tf.raw_ops.Conv2DBackpropFilter(
                input=x, filter_sizes=kernel.shape, out_backprop=y, **how
            )
        ]
        if layer is not layers[0]:
            found.append(
                tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=x.shape, filter=kernel, out_backprop=y, **how
                )
            )
        return found

    def epoch() -> tuple[tf.Tensor, ...]:
        def body(step: tf.Tensor, *kernels: tf.Tensor) -> tuple[tf.Tensor, ...]:
            after = []
            for layer, x, kernel in zip(layers, inputs, kernels, strict=True):
                found = products(layer, x, kernel)
                after.append(kernel + 1e-30 * sum(tf.reshape(each, [-1])[0] for each in found))
            return (step + 1, *after)

        start = (0, *(tf.convert_to_tensor(layer.kernel.value) for layer in layers))
        _, *kernels = tf.while_loop(
            lambda step, *_: step < STEPS, body, start, parallel_iterations=1
        )
        return tuple(kernels)

    compiled = tf.function(epoch, autograph=False)
    return lambda: compiled()[0].numpy()


def torch(case: Case, python: str) -> list[str]:
    """The command that prints the seconds of PyTorch's epochs."""
    params = case.params
    chosen = {name: params["train"][name] for name in ("batch_size", "weight_decay")}
    smoothing = params["train"]["label_smoothing"]
    given = {**params["model"]["cnn"], **chosen, "label_smoothing": smoothing}
    given |= {"images": IMAGES, "steps": STEPS, "epochs": EPOCHS}
    return [python, "-m", "benchmarks.peers.torch_recipe", json.dumps(given), str(case.threads)]


def ours(case: Case) -> list[str]:
    """The command that prints the seconds of ``epochs``."""
    command = [sys.executable, "-m", "benchmarks.convolutions", "--threads", str(case.threads)]
    return [*command, "--child", case.recipe, case.way]


def own_process(command: Sequence[str], environment: dict[str, str], fastest: list[float]) -> float:
    """The mean seconds of the epochs that a command prints; the least are added to ``fastest``."""
    out = side_by_side.run(command, ROOT, **environment)
    seconds = [float(word) for word in out.splitlines()[-1].split()]
    fastest.append(min(seconds))
    return fmean(seconds)


def table(recipe: str, found: dict[str, float], fastest: dict[str, list[float]]) -> str:
    """Milliseconds a step by what was measured, and their ratios to the bare operations'."""
    lines = [f"| {recipe} | ms a step | ratio | fastest epoch | ratio |", "|---|---|---|---|---|"]
    for name, seconds in found.items():
        cells = (
            f"{value / STEPS * 1000:.1f} | {value / bare:.2f}"
            for value, bare in ((seconds, found[BARE]), (min(fastest[name]), min(fastest[BARE])))
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds")
    parser.add_argument("--threads", type=int, default=2, help="of TensorFlow and PyTorch")
    parser.add_argument("--peers", help="an interpreter with benchmarks/requirements.txt")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        recipe, way = options.child
        print(*epochs(Case(recipe, way, options.threads)))
        return
    tables = []
    for recipe in RECIPES:
        case = Case(recipe, "", options.threads)
        commands = {name: ours(replace(case, way=way)) for name, way in ROWS.items()}
        environments: dict[str, dict[str, str]] = {}
        if options.peers:
            commands |= dict.fromkeys((TORCH, TORCH_KEPT), torch(case, options.peers))
            environments[TORCH] = {"OMP_NUM_THREADS": str(options.threads)}
            environments[TORCH_KEPT] = environments[TORCH] | KEPT
        fastest: dict[str, list[float]] = {name: [] for name in commands}
        works = {
            name: partial(own_process, command, environments.get(name, {}), fastest[name])
            for name, command in commands.items()
        }
        found = side_by_side.alternating(works, options.rounds)
        tables.append(table(recipe, found, fastest))
    note = f"Medians of {options.rounds} alternating rounds. {machine.describe()}"
    print("\n\n".join([*tables, note]))


if __name__ == "__main__":
    main()
