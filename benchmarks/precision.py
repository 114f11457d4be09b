"""What training in bfloat16 gains on this machine.

    python -m benchmarks.precision MIRROR [--rounds 3] [--threads 2]

The network of recipes/fashion-cnn.yaml trains on 12,800 images of Fashion-MNIST, in float32 and in
bfloat16 in turn, each in a process of its own; what is measured is the second epoch. The table goes
to the standard output.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import yaml

from benchmarks import machine, side_by_side
from benchmarks.side_by_side import ROOT

PRECISIONS = ("float32", "bfloat16")
IMAGES = 12_800


def epoch_seconds(precision: str, mirror: str, threads: int) -> float:
    """The seconds of an epoch, in this process."""
    from stages.lib import runtime, stored_images
    from stages.lib.data.formats import idx
    from stages.lib.training import loop, optimizers

    with runtime.starting():
        from stages.models import cnn
    recipe = yaml.safe_load((ROOT / "recipes/fashion-cnn.yaml").read_text(encoding="utf-8"))
    folder = Path(mirror, "fashion_mnist")
    pixels = idx.read_array(folder / "train-images-idx3-ubyte.gz", (3,))[:IMAGES]
    labels = idx.read_array(folder / "train-labels-idx1-ubyte.gz", (1,))[:IMAGES]
    images = stored_images.aligned_empty(pixels.shape, np.float32)
    np.divide(pixels, np.float32(255), out=images)
    runtime.configure(threads, seed=1)
    scored = model = cnn.build((28, 28), 10, **recipe["model"]["cnn"])
    if precision != "float32":
        with runtime.mixed_precision(precision, 1):
            model = cnn.build((28, 28), 10, **recipe["model"]["cnn"])
    train = recipe["train"]
    optimizer = optimizers.make(train["optimizer"], train["weight_decay"], {})
    smoothing, size = train["label_smoothing"], train["batch_size"]
    loss = loop.cross_entropy(10, smoothing)
    training = loop.Loop(model, optimizer, loss, size, scored=scored)
    x, y = loop.as_tensor(images), loop.as_tensor(labels.astype(np.int64))
    rates = np.full(-(-IMAGES // size), 1e-3, np.float32)
    order = np.random.default_rng(1).permutation(IMAGES)
    training.epoch(x, y, order, rates)
    return side_by_side.seconds(lambda: training.epoch(x, y, order, rates))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("mirror", type=lambda text: str(Path(text).resolve()))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--child", choices=PRECISIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(epoch_seconds(options.child, options.mirror, options.threads))
        return
    command = [sys.executable, "-m", "benchmarks.precision", options.mirror]
    command += ["--threads", str(options.threads), "--child"]
    found = side_by_side.alternating(
        {
            name: lambda name=name: float(side_by_side.run([*command, name]).split()[-1])  # type: ignore[misc]
            for name in PRECISIONS
        },
        options.rounds,
    )
    print("| precision | seconds an epoch | of float32 |\n|---|---|---|")
    for name, seconds in found.items():
        print(f"| {name} | {seconds:.2f} | {seconds / found['float32']:.2f} |")
    print(f"\n{machine.describe()}")


if __name__ == "__main__":
    main()
