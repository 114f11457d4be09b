"""Normalize: raw files to float32 images from 0 to 1, in a training, validation and test split."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from stages.lib import split_file
from stages.lib.core import config, files, stage, versions
from stages.lib.core.errors import UserError
from stages.lib.data import catalogue, formats, splits
from stages.lib.data.formats import Raw

RAW = Path("data/raw")
NORMALIZED = Path("data/normalized")
PIECE = 4096  # images that are float32 at once


class Params(config.Schema, frozen=True):
    """The section ``normalize`` of params.yaml."""

    validation_fraction: Annotated[
        float,
        Meta(ge=0, lt=1, description="fraction of the training images held out, by class"),
    ] = 0.1
    seed: Annotated[int, Meta(ge=0, le=4294967295, description="draws the held-out images")] = 1


class Entry(config.Schema, frozen=True):
    """What this stage reads of the catalogue's entry."""

    format: str
    files: dict[str, catalogue.File]
    pixel_max: catalogue.PixelMax
    class_names: catalogue.ClassNames


@dataclass(frozen=True)
class Settings:
    """What the result depends on."""

    dataset: str
    entry: Entry
    params: Params


def read_settings() -> Settings:
    """Reads and checks the configuration."""
    versions.require("msgspec", "numpy", "pyyaml", "zlib-ng")
    dataset, entry = catalogue.active(Entry)
    known = formats.by_name()
    where = f"{config.DATASETS}: {dataset}"
    parts = known[config.one_of(entry.format, known, f"{where}.format")].FILES
    catalogue.check_parts(entry.files, parts, f"{where}.files: format {entry.format}")
    return Settings(dataset, entry, config.section(config.PARAMS, "normalize", Params))


def read_raw(entry: Entry) -> tuple[Raw, Raw]:
    """The training and the test set as published.

    Raises:
        UserError: A file is missing, or not in the format.
    """
    paths = {part: raw_path(file) for part, file in entry.files.items()}
    return formats.by_name()[entry.format].read(paths)


def raw_path(file: catalogue.File) -> Path:
    """The path of a raw file: data sets share file names, so its content is checked.

    Raises:
        UserError: It is missing, or not the one that the catalogue means.
    """
    path = RAW / file.name
    if not path.is_file():
        raise UserError(
            f"{path.as_posix()}: not found, though {config.DATASETS} names it.\n"
            f"Run `dvc repro`, which runs download first, or correct the name in {config.DATASETS}."
        )
    digest = files.sha256(path)
    if digest != file.sha256:
        raise UserError(
            f"{path.as_posix()}: expected the configured data set's, SHA-256 {file.sha256}, "
            f"found {digest}.\nRun `dvc repro`, which runs download first."
        )
    return path


def check(raw: Raw, split: str, entry: Entry) -> None:
    """Checks that images and labels of one split fit each other and the catalogue.

    Raises:
        UserError: Shapes, counts, labels or pixel values are not as stated.
    """
    images, labels = raw
    last = len(catalogue.names(entry.class_names, "en")) - 1
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise _unexpected(split, "images of N x H x W or N x H x W x C", f"shape {images.shape}")
    if labels.shape != images.shape[:1]:
        raise _unexpected(split, f"labels of shape {images.shape[:1]}", f"shape {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise _unexpected(split, "labels that are integers", f"type {labels.dtype}")
    low, high = labels.min(), labels.max()
    if low < 0 or high > last:
        raise _unexpected(split, f"labels from 0 to {last} as class_names", f"{low} to {high}")
    if images.dtype.kind not in "iuf":
        raise _unexpected(split, "pixels that are numbers", f"type {images.dtype}")
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= entry.pixel_max):  # as is so for nan
        expected = f"pixels from 0 to pixel_max {entry.pixel_max:g}"
        raise _unexpected(split, expected, f"{low:g} to {high:g}")


def _unexpected(split: str, expected: str, found: str) -> UserError:
    return UserError(
        f"{RAW.as_posix()}: {split} set: expected {expected}, found {found}.\n"
        f"Correct the files or their entry in {config.DATASETS}."
    )


def scale(images: npt.NDArray[Any], pixel_max: float) -> npt.NDArray[np.float32]:
    """The images as float32 from 0 to 1."""
    scaled: npt.NDArray[np.float32] = np.divide(images, np.float32(pixel_max), dtype=np.float32)
    return scaled


def untrained(labels: npt.NDArray[Any], class_names: Sequence[str]) -> list[str]:
    """The names of the classes that the training labels (N integers) lack."""
    present = set(np.unique(labels).tolist())
    return [name for label, name in enumerate(class_names) if label not in present]


def main(settings: Settings) -> None:
    """Writes data/normalized/{train,validation,test}.npz."""
    entry = settings.entry
    (images, labels), test = read_raw(entry)
    check((images, labels), "training", entry)
    check(test, "test", entry)
    if images.shape[1:] != test[0].shape[1:]:
        shape = images.shape[1:]
        raise _unexpected(
            "test", f"images of shape {shape} as for training", f"{test[0].shape[1:]}"
        )
    training, held_out = splits.hold_out(
        labels, settings.params.validation_fraction, settings.params.seed
    )
    parts: dict[str, tuple[Raw, npt.NDArray[np.intp]]] = {
        "train": ((images, labels), training),
        "validation": ((images, labels), held_out),
        "test": (test, np.arange(len(test[1]))),
    }
    for name in untrained(labels[training], catalogue.names(entry.class_names, "en")):
        print(
            f"WARNING: class {name} has no training image; no model can learn it.", file=sys.stderr
        )
    print(f"{settings.dataset}, pixels 0 to {entry.pixel_max:g} to float32 0 to 1:")
    with files.replacing(NORMALIZED) as temporary:
        temporary.mkdir()
        for name, ((x, y), chosen) in parts.items():
            split = split_file.Split(
                images=np.broadcast_to(np.float32(0), (len(chosen), *x.shape[1:])),
                labels=y[chosen].astype(np.int64),
                class_names=catalogue.names(entry.class_names, "en"),
                class_names_zh=catalogue.names(entry.class_names, "zh"),
                pixel_max=entry.pixel_max,
            )
            path = temporary / f"{name}.npz"
            starts = range(0, len(chosen), PIECE)
            split_file.write(
                path,
                split,
                (scale(x[chosen[start : start + PIECE]], entry.pixel_max) for start in starts),
            )
            print(
                f"  {name + ':':<12}images {split.images.shape}, labels {split.labels.shape}, "
                f"{path.stat().st_size / 1e6:.1f} MB in {(NORMALIZED / path.name).as_posix()}"
            )


if __name__ == "__main__":
    stage.run(read_settings, main, [RAW])
