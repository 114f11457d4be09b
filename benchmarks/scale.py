"""Time and memory of the stages against the number of images.

    python -m benchmarks.scale MIRROR [--sizes 10000 60000 240000 1000000]

The images are MNIST's, repeated and moved by a few pixels. Each stage runs as its own process on a
data set of that size: normalize, train (one epoch of R4's set-up) and evaluate (a tenth as many
test images). The table is written to benchmarks/scale.md.
"""

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml

from benchmarks import machine, side_by_side
from benchmarks.peers import data
from benchmarks.side_by_side import ROOT
from stages.lib.core import files

TABLE = ROOT / "benchmarks/scale.md"
STAGES = ("normalize", "train", "evaluate")
BYTES_AN_IMAGE = 28 * 28 * 4


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    """An IDX file of unsigned bytes."""
    sizes = np.array(array.shape, ">u4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def repeated(images: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.uint8]:
    """``count`` images: the given ones, again and again, each time moved by other pixels."""
    result = np.empty((count, *images.shape[1:]), np.uint8)
    for round_, start in enumerate(range(0, count, len(images))):
        part = result[start : start + len(images)]
        part[:] = np.roll(images[: len(part)], (round_ % 3 - 1, round_ // 3 % 3 - 1), axis=(1, 2))
    return result


def make(folder: Path, mirror: str, count: int) -> None:
    """A copy of the repository whose raw data are ``count`` training images."""
    side_by_side.run(["git", "clone", "-q", str(ROOT), str(folder)])
    (train, train_labels), (test, test_labels) = data.raw(mirror)
    tests = max(1000, count // 10)
    arrays = {
        "train_images": repeated(train, count),
        "train_labels": np.resize(train_labels, count),
        "test_images": repeated(test, tests),
        "test_labels": np.resize(test_labels, tests),
    }
    params = yaml.safe_load((ROOT / "recipes/mnist-mlp-logits.yaml").read_text(encoding="utf-8"))
    params["train"]["epochs"] = 1
    files.write_text(folder / "params.yaml", yaml.safe_dump(params, sort_keys=False))
    datasets = yaml.safe_load((ROOT / "datasets.yaml").read_text(encoding="utf-8"))
    for role, array in arrays.items():
        content = idx(array)
        files.write_bytes(folder / "data/raw" / role, content)
        digest = hashlib.sha256(content).hexdigest()
        datasets["mnist"]["files"][role] = {"name": role, "sha256": digest}
    files.write_text(folder / "datasets.yaml", yaml.safe_dump(datasets, sort_keys=False))


def measure(mirror: str, count: int) -> dict[str, tuple[float, float]]:
    """Seconds and peak memory in MB of every stage on ``count`` images."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "clone"
        make(folder, mirror, count)
        return {
            stage: side_by_side.peak_memory([sys.executable, "-m", f"stages.{stage}"], folder)
            for stage in STAGES
        }


def table(found: dict[int, dict[str, tuple[float, float]]]) -> str:
    """One row a size; the last row is the slope between the two largest ones."""
    header = "| images | as float32, MB | " + " | ".join(f"{s}, s | {s}, MB" for s in STAGES) + " |"
    lines = [header, "|---" * (2 + 2 * len(STAGES)) + "|"]
    for count, stages in found.items():
        cells = [f"{count:,}", f"{count * BYTES_AN_IMAGE / 1e6:,.0f}"]
        cells += [f"{value:,.1f} | {peak:,.0f}" for value, peak in stages.values()]
        lines.append("| " + " | ".join(cells) + " |")
    if len(found) > 1:
        (a, low), (b, high) = list(found.items())[-2:]
        slopes = [
            f"{(high[s][0] - low[s][0]) / (b - a) * 1e6:.1f} | "
            f"{(high[s][1] - low[s][1]) / (b - a) * 1e6:,.0f}"
            for s in STAGES
        ]
        cells = ["a million more", f"{BYTES_AN_IMAGE:,}", *slopes]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures every size and writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "mirror", type=lambda text: str(Path(text).resolve()), help="folder of the published files"
    )
    sizes = [10_000, 60_000, 240_000, 1_000_000]
    parser.add_argument("--sizes", type=int, nargs="*", default=sizes, help="numbers of images")
    options = parser.parse_args(arguments)
    found = {}
    for count in options.sizes:
        found[count] = measure(options.mirror, count)
        print(f"{count:,} images: {found[count]}", flush=True)
    text = f"{table(found)}\n\n{machine.describe()}\n"
    files.write_text(TABLE, text)
    print(text)


if __name__ == "__main__":
    main()
