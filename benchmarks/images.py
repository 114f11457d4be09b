"""How long image files take through download and normalize, and how much memory.

    python -m benchmarks.images MIRROR [--rounds 3]

MIRROR is a folder with mnist/. Four archives are made in a temporary folder: MNIST as 70,000 PNG
files, 10,000 of them, and 10,000 and 2,000 JPEG photos of 640 x 480 that become 96 x 96. Figures go
to the standard output as a table: seconds by the clock and of the processor, which differ where
others use the machine, and the peak memory of normalize.
"""

import argparse
import gzip
import hashlib
import io
import shutil
import statistics
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from benchmarks import machine
from benchmarks.side_by_side import ROOT, run

PARTS = (("train", "train", 60_000), ("test", "t10k", 10_000))


def mnist(mirror: Path, count: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents of MNIST's images as PNG files, ``count`` of them at most."""
    for folder, prefix, total in PARTS:
        with gzip.open(mirror / f"mnist/{prefix}-images-idx3-ubyte.gz") as stream:
            images = np.frombuffer(stream.read(), np.uint8, offset=16).reshape(total, 28, 28)
        with gzip.open(mirror / f"mnist/{prefix}-labels-idx1-ubyte.gz") as stream:
            labels = np.frombuffer(stream.read(), np.uint8, offset=8)
        for number in range(total * count // 70_000):
            content = io.BytesIO()
            Image.fromarray(images[number]).save(content, "PNG")
            yield f"{folder}/{labels[number]}/{number:05}.png", content.getvalue()


def photos(count: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents of made JPEG photos of 640 x 480 in ten classes, about 83 kB each."""
    random = np.random.default_rng(1)
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (48, 64, 3), np.uint8))
        content = io.BytesIO()
        coarse.resize((640, 480), Image.Resampling.BICUBIC).save(content, "JPEG", quality=90)
        yield f"{number % 10}/{number:05}.jpg", content.getvalue()


def furnish(folder: Path, files: Iterator[tuple[str, bytes]], size: int | None) -> None:
    """Makes a working folder whose data set is an archive of the files."""
    shutil.copytree(ROOT / "stages", folder / "stages")
    for name in ("dvc.yaml", "environment.yaml", "weights.yaml"):
        shutil.copyfile(ROOT / name, folder / name)
    (folder / "data/embedded").mkdir(parents=True)
    archive = folder / "mirror/made/made.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as packed:
        for name, content in files:
            packed.writestr(name, content)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    entry = {
        "title": "Made",
        "licence": "CC0",
        "citation": "None.",
        "format": "images",
        "urls": [],
        "files": {"archive": {"name": archive.name, "sha256": digest}},
        "pixel_max": 255,
        "class_names": [str(digit) for digit in range(10)],
    }
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["dataset"] = "made"
    params["normalize"]["size"] = size
    for name, mapping in {"params.yaml": params, "datasets.yaml": {"made": entry}}.items():
        (folder / name).write_text(yaml.safe_dump(mapping), encoding="utf-8")


def measure(folder: Path) -> list[float]:
    """Seconds by the clock and of the processor of each stage, and peak memory in MB."""
    environment = {"DATASET_MIRROR": str(folder / "mirror"), "DATASET_CACHE": str(folder / "cache")}
    shutil.rmtree(folder / "cache", ignore_errors=True)
    script = (
        "import resource, subprocess, sys, time; started = time.perf_counter();"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)"
    )
    figures: list[float] = []
    for stage in ("download", "normalize"):
        command = [sys.executable, "-c", script, sys.executable, "-m", f"stages.{stage}"]
        figures += map(float, run(command, folder, **environment).split()[-3:])
    return [figures[at] for at in (0, 1, 3, 4, 5)]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("mirror", type=Path, help="folder of the published files")
    parser.add_argument("--rounds", type=int, default=3, help="alternating rounds")
    parser.add_argument("--only", default="", help="a part of a row's name")
    options = parser.parse_args()
    works: dict[str, tuple[Callable[[], Iterator[tuple[str, bytes]]], int | None]] = {
        "70,000 PNG of 28 x 28": (lambda: mnist(options.mirror, 70_000), None),
        "10,000 PNG of 28 x 28": (lambda: mnist(options.mirror, 10_000), None),
        "10,000 JPEG of 640 x 480 to 96 x 96": (lambda: photos(10_000), 96),
        "2,000 JPEG of 640 x 480 to 96 x 96": (lambda: photos(2_000), 96),
    }
    print("| image files | download, s | of the processor | normalize, s | of the processor | MB |")
    print("|---|---|---|---|---|---|")
    for name, (files, size) in works.items():
        if options.only not in name:
            continue
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "made"
            folder.mkdir()
            furnish(folder, files(), size)
            rounds = [measure(folder) for _ in range(options.rounds)]
        *seconds, peak = (statistics.median(column) for column in zip(*rounds, strict=True))
        columns = " | ".join(f"{second:.1f}" for second in seconds)
        print(f"| {name} | {columns} | {peak:.0f} |", flush=True)
    print(f"\n{machine.describe('pillow', 'numpy')}")


if __name__ == "__main__":
    main()
