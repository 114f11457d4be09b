"""All five stages on photos that do not fit into memory, under a limit of it.

    python -m benchmarks.photos [--count 20000] [--limit 4]

Made photos of 224 x 224 in three colours, 12 GB as float32, go through download, normalize, train
(two epochs of a small convolutional network), evaluate and plot, each a process whose address space
is limited. The table of seconds and peak memory is written to benchmarks/photos.md.
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from benchmarks import images, machine, side_by_side
from benchmarks.side_by_side import ROOT
from stages.lib.core import files

TABLE = ROOT / "benchmarks/photos.md"
SIDE = 224
STAGES = ("download", "normalize", "train", "evaluate", "plot")
PARAMS: dict[str, dict[str, Any]] = {
    "model": {
        "architecture": "cnn",
        "cnn": {"channels": [8, 16, 32], "convolutions": [1, 1, 1], "dropout": 0.0},
    },
    "train": {"batch_size": 32, "epochs": 2, "threads": 2, "augmentation": {"flip": True}},
    "evaluate": {"batch_size": 32, "threads": 2},
}


def photos(count: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents of made JPEG photos in ten classes, each with a hue of its own."""
    random = np.random.default_rng(1)
    for number in range(count):
        label = number % 10
        coarse = random.integers(0, 200, (14, 14, 3))
        coarse[..., label % 3] += 5 * label
        content = io.BytesIO()
        image = Image.fromarray(coarse.astype(np.uint8))
        image.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(content, "JPEG", quality=90)
        yield f"{label}/{number:05}.jpg", content.getvalue()


def furnish(folder: Path, count: int) -> None:
    """Makes a working folder of the photos."""
    images.furnish(folder, photos(count), None)
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section, values in PARAMS.items():
        params[section] |= values
    path.write_text(yaml.safe_dump(params), encoding="utf-8")


def measure(stage: str, folder: Path, limit: int) -> tuple[float, float]:
    """Seconds and peak resident memory in MB of a stage that may map ``limit`` bytes."""
    environment = {"DATASET_MIRROR": str(folder / "mirror"), "DATASET_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", f"stages.{stage}"]
    return side_by_side.peak_memory(command, folder, limit, **environment)


def main() -> None:
    """Measures the stages and writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000, help="photos")
    parser.add_argument("--limit", type=float, default=4.0, help="GB of address space")
    options = parser.parse_args()
    lines = ["| stage | seconds | peak memory, MB |", "|---|---|---|"]
    with tempfile.TemporaryDirectory(dir=ROOT.parent) as place:  # a /tmp may be memory
        folder = Path(place) / "photos"
        folder.mkdir()
        furnish(folder, options.count)
        for stage in STAGES:
            elapsed, peak = measure(stage, folder, int(options.limit * 1e9))
            lines.append(f"| {stage} | {elapsed:.0f} | {peak:,.0f} |")
            print(lines[-1], flush=True)
    size = options.count * SIDE * SIDE * 3 * 4 / 1e9
    title = (
        f"{options.count:,} photos of {SIDE} x {SIDE} x 3, {size:.0f} GB as float32, "
        f"{options.limit:g} GB of address space a stage."
    )
    text = "\n".join([title, "", *lines, "", machine.describe()]) + "\n"
    files.write_text(TABLE, text)
    print(text)


if __name__ == "__main__":
    main()
