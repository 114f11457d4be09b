"""Normalize: raw files to float32 images from 0 to 1, in a training, validation and test split."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt

from stages.lib import archive, catalogue, config, environment, files, idx, stage
from stages.lib.errors import UserError

RAW = Path("data/raw")
NORMALIZED = Path("data/normalized")

# The files that a format consists of, as the catalogue's `files` names them
ROLES = {
    "idx": ("train_images", "train_labels", "test_images", "test_labels"),
    "npz": ("arrays",),
}

Raw = tuple[npt.NDArray[Any], npt.NDArray[Any]]  # images, N x H x W (x C); labels, N


@dataclass(frozen=True)
class Params:
    """The section ``normalize`` of params.yaml."""

    validation_fraction: Annotated[float, "[0, 1)"]
    seed: Annotated[int, "[0, 4294967295]"]


@dataclass(frozen=True)
class Entry:
    """What this stage reads of the catalogue's entry."""

    format: Literal["idx", "npz"]
    files: dict[str, catalogue.File]
    pixel_max: Annotated[float, "(0, inf)"]
    class_names: list[str]
    class_names_zh: list[str] | None


@dataclass(frozen=True)
class Settings:
    """What the result depends on."""

    dataset: str
    entry: Entry
    params: Params


def read_settings() -> Settings:
    """Reads and checks the configuration."""
    environment.require("numpy", "pyyaml", "zlib-ng")
    dataset, entry = catalogue.active(Entry)
    where = f"{config.DATASETS}: {dataset}"
    for role in ROLES[entry.format]:
        config.one_of(role, entry.files, f"{where}.files: format {entry.format} needs {role}")
    if len(entry.class_names_zh or entry.class_names) != len(entry.class_names):
        raise UserError(
            f"{where}.class_names_zh: expected {len(entry.class_names)} names as in class_names, "
            f"found {len(entry.class_names_zh or [])}.\nName every class in both, or leave class_names_zh out."
        )
    return Settings(dataset, entry, config.section(config.PARAMS, "normalize", Params))


def read_raw(entry: Entry) -> tuple[Raw, Raw]:
    """The training and the test set as published.

    Raises:
        UserError: A file is missing or not in the stated format.
    """
    paths = {role: RAW / file.name for role, file in entry.files.items()}
    for path in paths.values():
        if not path.exists():
            raise files.missing(path)
    if entry.format == "idx":
        return (
            (idx.read(paths["train_images"], (3, 4)), idx.read(paths["train_labels"], (1,))),
            (idx.read(paths["test_images"], (3, 4)), idx.read(paths["test_labels"], (1,))),
        )
    path = paths["arrays"]
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x_train, y_train, x_test, y_test = (
                arrays[name] for name in ("x_train", "y_train", "x_test", "y_test")
            )
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path.as_posix()}: expected an .npz archive of x_train, y_train, x_test and y_test, "
            f"found: {error}.\nSave one with numpy.savez_compressed."
        ) from None
    return (x_train, y_train), (x_test, y_test)


def check(raw: Raw, split: str, entry: Entry) -> None:
    """Checks that images and labels of one split fit each other and the catalogue.

    Raises:
        UserError: Shapes, counts, labels or pixel values are not as stated.
    """
    images, labels = raw
    classes = len(entry.class_names)
    found = None
    if images.ndim not in (3, 4) or 0 in images.shape:
        found = f"{split} images as N x H x W or N x H x W x C, found shape {images.shape}"
    elif labels.shape != images.shape[:1]:
        found = f"as many labels as images, found {labels.shape} labels for {len(images)} {split} images"
    elif labels.dtype.kind not in "iu":
        found = f"{split} labels as integers, found {labels.dtype}"
    elif labels.min() < 0 or labels.max() >= classes:
        found = f"{split} labels from 0 to {classes - 1} for {classes} class_names, found {labels.min()} to {labels.max()}"
    elif images.dtype.kind not in "iuf" or not np.isfinite(images.max()):
        found = f"{split} images of finite numbers, found {images.dtype}"
    elif images.min() < 0 or images.max() > entry.pixel_max:
        found = f"{split} pixels from 0 to pixel_max {entry.pixel_max:g}, found {images.min()} to {images.max()}"
    if found:
        raise UserError(
            f"{RAW.as_posix()}: expected {found}.\nCorrect the files or their entry in {config.DATASETS}."
        )


def hold_out(
    labels: npt.NDArray[Any], fraction: float, seed: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Splits the training set by class.

    Args:
        labels: N integers.
        fraction: The share of every class that is held out, rounded to whole images.
        seed: Draws which ones.

    Returns:
        The indices to train on and those held out, both ascending.
    """
    random = np.random.default_rng(seed)
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        held_out[random.permutation(of_class)[: round(fraction * len(of_class))]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def scale(images: npt.NDArray[Any], pixel_max: float) -> npt.NDArray[np.float32]:
    """The images as float32 from 0 to 1."""
    return np.divide(images, np.float32(pixel_max), dtype=np.float32)


def main(settings: Settings) -> None:
    """Writes data/normalized/{train,validation,test}.npz."""
    entry = settings.entry
    (images, labels), test = read_raw(entry)
    check((images, labels), "training", entry)
    check(test, "test", entry)
    if images.shape[1:] != test[0].shape[1:]:
        raise UserError(
            f"{RAW.as_posix()}: expected training and test images of one shape, found "
            f"{images.shape[1:]} and {test[0].shape[1:]}.\nCorrect the files."
        )
    kept, held_out = hold_out(labels, settings.params.validation_fraction, settings.params.seed)
    if not len(kept):
        raise UserError(
            f"{config.PARAMS}: normalize.validation_fraction: expected a share that leaves images to "
            f"train on, found {settings.params.validation_fraction}.\nLower it and run again."
        )
    splits: dict[str, tuple[Raw, npt.NDArray[np.intp] | slice]] = {
        "train": ((images, labels), kept),
        "validation": ((images, labels), held_out),
        "test": (test, slice(None)),
    }
    print(f"{settings.dataset}, pixels 0 to {entry.pixel_max:g} to float32 0 to 1:")
    with files.replacing(NORMALIZED) as temporary:
        temporary.mkdir()
        for name, ((x, y), chosen) in splits.items():
            split = archive.Split(
                images=scale(x[chosen], entry.pixel_max),
                labels=y[chosen].astype(np.int64),
                class_names=entry.class_names,
                class_names_zh=entry.class_names_zh or [],
                pixel_max=entry.pixel_max,
            )
            path = temporary / f"{name}.npz"
            archive.write(path, split)
            print(
                f"  {name + ':':<12}images {split.images.shape}, labels {split.labels.shape}, "
                f"{path.stat().st_size / 1e6:.1f} MB in {(NORMALIZED / path.name).as_posix()}"
            )


if __name__ == "__main__":
    stage.run(read_settings, main, [RAW])
