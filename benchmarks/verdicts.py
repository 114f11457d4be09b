"""How often `tools.compare` sees a difference where there is none, and finds one that is there.

    nice -n 10 python -m benchmarks.verdicts pool FOLDER     # trains, minutes; goes on where it was
    python -m benchmarks.verdicts table FOLDER               # writes benchmarks/verdicts.md

The pool holds trainings that differ in their seed alone, of small set-ups (the digits and 10,000
images of Fashion-MNIST; a multilayer perceptron and a short convolutional network).
Groups of them play both sides of a comparison. DATASET_MIRROR or a network is needed for
Fashion-MNIST, whose files are looked for in data/raw and in $DATASET_MIRROR/fashion_mnist.
"""

import argparse
import gzip
import math
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
from tools.compare import scores, statistics
from tools.compare.evidence import weigh
from tools.compare.sides import Labels

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "benchmarks/verdicts.md"
TRAINING_IMAGES = 10_000  # of Fashion-MNIST; its 10,000 test images are all scored

# name: data set, architecture and its arguments, epochs, learning rate, batch size, trainings
_MLP: dict[str, Any] = {"hidden_units": [64], "dropout": 0.0}
_UNITS_128: dict[str, Any] = {"hidden_units": [128], "dropout": 0.0}
_UNITS_512: dict[str, Any] = {"hidden_units": [512], "dropout": 0.0}
_CNN: dict[str, Any] = {"channels": [8, 16], "convolutions": [1, 1], "dropout": 0.0}
SETUPS: dict[str, tuple[str, str, dict[str, Any], int, float, int, int]] = {
    "digits-mlp": ("digits", "mlp", _MLP, 10, 0.003, 32, 24),
    "digits-cnn": ("digits", "cnn", _CNN, 4, 0.003, 32, 24),
    "fashion-mlp": ("fashion", "mlp", _MLP, 3, 0.001, 32, 24),
    "fashion-cnn": ("fashion", "cnn", _CNN, 2, 0.003, 64, 20),
    "fashion-mlp-128": ("fashion", "mlp", _UNITS_128, 5, 0.001, 32, 20),
    "fashion-mlp-512": ("fashion", "mlp", _UNITS_512, 5, 0.001, 32, 20),
    "fashion-mlp-10-epochs": ("fashion", "mlp", _UNITS_128, 10, 0.001, 32, 20),
}

NULL = ("digits-mlp", "digits-cnn", "fashion-mlp", "fashion-cnn")  # for false alarms and power
REAL = (
    ("fashion-mlp-128", "fashion-mlp-512"),
    ("fashion-mlp-128", "fashion-mlp-10-epochs"),
    ("fashion-mlp", "fashion-mlp-10-epochs"),
    ("digits-cnn", "digits-mlp"),
)

WORDS = ("better", "worse")

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
                (idx(f"{part}-images-idx3-ubyte.gz") / np.float32(255)).astype(np.float32),
                idx(f"{part}-labels-idx1-ubyte.gz").astype(np.int64),
            )
            for part in ("train", "t10k")
        )
        return (train[0][:TRAINING_IMAGES], train[1][:TRAINING_IMAGES]), test
    with np.load(next((ROOT / "data/embedded").glob("**/*.npz"))) as arrays:
        images, labels = (
            {part: arrays[f"{kind}_{part}"] for part in ("train", "test")} for kind in ("x", "y")
        )
    top = np.float32(max(part.max() for part in images.values()))
    train, test = (
        ((images[part] / top).astype(np.float32), labels[part].astype(np.int64))
        for part in ("train", "test")
    )
    return train, test


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
                [
                    np.asarray(model(test[at : at + 1000], training=False))
                    for at in range(0, len(test), 1000)
                ]
            )
            odds = np.exp(logits - logits.max(axis=1, keepdims=True))
            probabilities = odds / odds.sum(axis=1, keepdims=True)
            accuracy = float((probabilities.argmax(axis=1) == actual).mean())
            np.savez(folder / f"{name}-{seed}.npz", probabilities=probabilities, actual=actual)
            print(f"{name} {seed}: {accuracy:.4f}, {time.process_time() - began:.0f} s", flush=True)
            keras.backend.clear_session()


def read(folder: Path, name: str) -> list[Labels]:
    """All trainings of a set-up."""
    trainings = []
    for seed in range(1, SETUPS[name][-1] + 1):
        with np.load(folder / f"{name}-{seed}.npz") as arrays:
            probabilities, actual = arrays["probabilities"].astype(np.float64), arrays["actual"]
        predicted = probabilities.argmax(axis=1)
        trainings.append(Labels(actual, predicted, probabilities.shape[1], probabilities))
    return trainings


def false_alarms(trainings: list[Labels], size: int, pairs: int) -> dict[str, float]:
    """The fraction of pairs of disjoint groups of one set-up that get a word, by what is tested."""
    rng = np.random.default_rng(1)
    tables, actual = scores.by_metric(trainings), trainings[0].actual
    counts = dict.fromkeys([*tables, "any class", "McNemar, one training a side"], 0)
    for _ in range(pairs):
        order = rng.permutation(len(trainings))
        one, two = order[:size], order[size : 2 * size]
        for name, table in tables.items():
            counts[name] += weigh(table[one], table[two]).verdict() in WORDS
        correct = tables[scores.ACCURACY]
        p_values = [
            weigh(correct[one][:, actual == label], correct[two][:, actual == label]).p_value
            for label in range(10)
        ]
        counts["any class"] += min(statistics.holm(p_values)) < statistics.LEVEL
        was, now = correct[one[0]], correct[two[0]]
        fixed, broken = int((now > was).sum()), int((was > now).sum())
        p_value = statistics.mcnemar_exact(fixed, broken)
        counts["McNemar, one training a side"] += p_value < statistics.LEVEL
    return {name: count / pairs for name, count in counts.items()}


def power(trainings: list[Labels], size: int, points: float, pairs: int) -> float:
    """How often a difference is found that is put between two disjoint groups of one set-up.

    In every training of the later group, so many of the misclassified images become correct that
    the accuracy rises by the points, mostly those that most trainings classify correctly. NaN
    where the pool has too few trainings.
    """
    if len(trainings) < 2 * size:
        return math.nan
    rng = np.random.default_rng(2)
    correct = scores.correct(trainings)
    ease = correct.mean(axis=0)
    detected = 0
    for _ in range(pairs):
        order = rng.permutation(len(trainings))
        groups = order[:size], order[size : 2 * size]
        before, after = correct[groups[0]], correct[groups[1]].copy()
        for row in after:
            wrong = np.flatnonzero(row == 0)
            flips = min(len(wrong), round(points / 100 * len(row)))
            weights = ease[wrong] + 0.05
            row[rng.choice(wrong, flips, replace=False, p=weights / weights.sum())] = 1
        detected += weigh(before, after).verdict() == "better"
    return detected / pairs


def smallest(size: int, pairs: int) -> float:
    """The difference that is found in 8 of 10 pairs, in standard deviations over seeds.

    Of trainings whose accuracies are normal, on test images so many that their chance is nothing.
    """
    rng = np.random.default_rng(4)
    draws = np.repeat(rng.normal(size=(pairs, 2, size, 1)), 2, axis=3)  # two images that are equal
    return next(
        float(points)
        for points in np.arange(0.5, 20, 0.1)
        if np.mean([weigh(a, b + points).verdict() == "better" for a, b in draws]) >= 0.8
    )


def _cell(fraction: float) -> str:
    return "–" if math.isnan(fraction) else f"{100 * fraction:.0f}"


def real(one: list[Labels], two: list[Labels], size: int, pairs: int) -> float:
    """How often groups of two set-ups get the word of the true direction."""
    rng = np.random.default_rng(3)
    before, after = scores.correct(one), scores.correct(two)
    way = "better" if after.mean() > before.mean() else "worse"
    count = 0
    for _ in range(pairs):
        groups = (rng.permutation(len(table))[:size] for table in (before, after))
        rows = [table[group] for table, group in zip((before, after), groups, strict=True)]
        count += weigh(rows[0], rows[1]).verdict() == way
    return count / pairs


def table(folder: Path, pairs: int) -> str:
    """What the pool says, in Markdown."""
    lines = ["# How far a verdict of tools.compare can be trusted", ""]
    made = (
        "Made by `python -m benchmarks.verdicts pool FOLDER`, then by `table FOLDER --pairs "
        f"{pairs}`: "
        f"{pairs} pairs of groups a cell, from trainings that differ in their seed alone. Groups "
        "are drawn anew from the same trainings, so that a fraction is exact to about 2 points "
        "where it is near 5 %, to 4 where it is near 50 %. The set-ups are in "
        f"`benchmarks/verdicts.py`; of Fashion-MNIST the first {TRAINING_IMAGES:,} images are "
        "trained, at a constant learning rate."
    )
    header = "| set-up | trainings | test images | mean accuracy | SD over seeds, points |"
    lines += [made, "", "## The trainings", "", header, "| --- | ---: | ---: | ---: | ---: |"]
    pools = {name: read(folder, name) for name in SETUPS}
    for name, trainings in pools.items():
        accuracies = scores.correct(trainings).mean(axis=1)
        lines.append(
            f"| {name} | {len(trainings)} | {len(trainings[0].actual):,} | "
            f"{100 * accuracies.mean():.2f} % | {100 * accuracies.std(ddof=1):.2f} |"
        )
    lines += ["", "## False alarms: better or worse where there is nothing, in %", ""]
    columns = ["accuracy", "loss", "calibration error", "any class", "McNemar, one training a side"]
    lines += [f"| set-up, trainings a side | {' | '.join(columns)} |", "| --- |" + " ---: |" * 5]
    for name in NULL:
        for size in (3, 5):
            alarms = false_alarms(pools[name], size, pairs)
            cells = " | ".join(f"{100 * value:.1f}" for value in alarms.values())
            lines.append(f"| {name}, {size} | {cells} |")
    lines += ["", "## Power: how often a true difference is found, in %", ""]
    note = (
        "A difference is put in by making misclassified images correct. One training a side never "
        "earns better or worse."
    )
    header = "| set-up, trainings a side | 0.3 points | 0.5 | 1 | 2 |"
    lines += [note, "", header, "| --- | ---: | ---: | ---: | ---: |"]
    for name in NULL:
        for size in (1, 3, 5, 10):
            found = (power(pools[name], size, points, pairs) for points in (0.3, 0.5, 1, 2))
            lines.append(f"| {name}, {size} | {' | '.join(map(_cell, found))} |")
    lines += [*_smallest(pairs), "| real change | true difference, points | 3 a side | 5 | 10 |"]
    lines += ["| --- | ---: | ---: | ---: | ---: |"]
    for one, two in REAL:
        pair = pools[one], pools[two]
        means = [scores.correct(side).mean() for side in pair]
        cells = " | ".join(f"{100 * real(*pair, size, pairs):.0f}" for size in (3, 5, 10))
        lines.append(f"| {one} to {two} | {100 * (means[1] - means[0]):+.2f} | {cells} |")
    return "\n".join(lines) + "\n"


def _smallest(pairs: int) -> list[str]:
    """From which a reader picks a number of trainings."""
    note = (
        "The smallest difference that is found in 8 of 10 pairs, in standard deviations over "
        "seeds, where test images are so many that their chance is nothing (simulated):"
    )
    counts = (2, 3, 4, 5, 7, 10, 15, 20)
    cells = " | ".join(f"{smallest(count, pairs):.1f}" for count in counts)
    return [
        *("", note, ""),
        f"| trainings a side | {' | '.join(map(str, counts))} |",
        f"| --- |{' ---: |' * len(counts)}",
        f"| standard deviations | {cells} |",
        "",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains the pool, or writes the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts", description=__doc__)
    parser.add_argument("step", choices=["pool", "table"])
    parser.add_argument("folder", type=Path, help="where the predictions of the pool lie")
    parser.add_argument("--pairs", type=int, default=400, help="pairs of groups a cell")
    options = parser.parse_args(arguments)
    if options.step == "pool":
        pool(options.folder)
    else:
        files.write_text(TABLE, table(options.folder, options.pairs))
        print(f"Written: {TABLE.relative_to(ROOT).as_posix()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
