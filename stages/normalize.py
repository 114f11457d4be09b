"""Normalize: raw files to float32 images from 0 to 1, in a training, validation and test split."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from stages.lib import flaws, split_file
from stages.lib.core import config, files, stage, versions
from stages.lib.core.errors import UserError
from stages.lib.data import catalogue, formats
from stages.lib.data.formats import Part, Raw, images
from stages.lib.data.preparation import inspection, splits

if TYPE_CHECKING:  # Pillow is imported where it has work
    from stages.lib.data.preparation import decoding

RAW = Path("data/raw")
NORMALIZED = Path("data/normalized")
METRICS = Path("reports/data/metrics.json")
TABLES = Path("reports/data/tables")
IMAGES = "images"  # the format whose images are decoded
WHITE = 255  # and what they are decoded to
MOST_CHANNELS = 4  # of images as they are usual

Side = Annotated[int, Meta(ge=1, le=4096, description="pixels")]


class Params(config.Schema, frozen=True):
    """The section ``normalize`` of params.yaml."""

    validation_fraction: Annotated[
        float,
        Meta(
            ge=0, lt=1, description="fraction of the training images held out, of arrays by class"
        ),
    ] = 0.1
    seed: Annotated[int, Meta(ge=0, le=4294967295, description="draws the held-out images")] = 1
    test_fraction: Annotated[
        float,
        Meta(gt=0, lt=1, description="fraction of image files to test on, where none are given"),
    ] = 0.2
    size: (
        Side
        | Annotated[list[Side], Meta(min_length=2, max_length=2, description="height and width")]
        | None
    ) = None
    colour: Annotated[
        Literal["grey", "rgb"] | None, Meta(description="of the images; null leaves it")
    ] = None
    resize: Annotated[
        Literal["pad", "crop", "stretch"],
        Meta(description="pad and crop keep the proportions"),
    ] = "pad"
    background: Annotated[
        Literal["white", "black"],
        Meta(description="behind transparent images and around padded ones"),
    ] = "white"
    unreadable: Annotated[
        Literal["fail", "skip"], Meta(description="what to do about files that are no image")
    ] = "fail"


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
    versions.require("msgspec", "numpy", "pillow", "pyyaml", "zlib-ng")
    dataset, entry = catalogue.active(Entry)
    known = formats.by_name()
    where = f"{config.DATASETS}: {dataset}"
    parts = known[config.one_of(entry.format, known, f"{where}.format")].FILES
    catalogue.check_parts(entry.files, parts, f"{where}.files: format {entry.format}")
    if entry.format == IMAGES and entry.pixel_max != WHITE:
        raise UserError(
            f"{where}.pixel_max: expected {WHITE}, to which image files are decoded, "
            f"found {entry.pixel_max:g}.\nSet it to {WHITE}."
        )
    return Settings(dataset, entry, config.section(config.PARAMS, "normalize", Params))


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
    if images.ndim == 4 and images.shape[3] > MOST_CHANNELS and images.shape[1] <= MOST_CHANNELS:
        raise _unexpected(
            split,
            "images of N x H x W x C, the channels last",
            f"shape {images.shape}, which numpy.moveaxis(images, 1, -1) turns",
        )
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


def check_shapes(training: Raw, test: Raw) -> None:
    """Checks that the images of both sets are of one shape.

    Raises:
        UserError: They are not.
    """
    shape, other = training[0].shape[1:], test[0].shape[1:]
    if shape != other:
        raise _unexpected("test", f"images of shape {shape} as for training", f"{other}")


def _unexpected(split: str, expected: str, found: str) -> UserError:
    return UserError(
        f"{RAW.as_posix()}: {split} set: expected {expected}, found {found}.\n"
        f"Correct the files or their entry in {config.DATASETS}."
    )


def scale(images: npt.NDArray[Any], pixel_max: float) -> npt.NDArray[np.float32]:
    """The images as float32 from 0 to 1."""
    scaled: npt.NDArray[np.float32] = np.divide(images, np.float32(pixel_max), dtype=np.float32)
    return scaled


def target(params: Params) -> "decoding.Target":
    """What images are to become."""
    from stages.lib.data.preparation import decoding

    size = (params.size, params.size) if isinstance(params.size, int) else params.size
    background = WHITE if params.background == "white" else 0
    return decoding.Target(
        (size[0], size[1]) if size else None, params.colour, params.resize, background
    )


def array_parts(settings: Settings) -> dict[str, Part]:
    """The three splits of a format of arrays.

    Raises:
        UserError: A file is missing, not in the format, or not as its entry states.
    """
    entry, params = settings.entry, settings.params
    paths = {part: raw_path(file) for part, file in entry.files.items()}
    training, test = formats.by_name()[entry.format].read(paths)
    check(training, "training", entry)
    check(test, "test", entry)
    check_shapes(training, test)
    chosen, held_out = splits.hold_out(training[1], params.validation_fraction, params.seed)
    return {
        "train": array_part(training, chosen, settings),
        "validation": array_part(training, held_out, settings),
        "test": array_part(test, np.arange(len(test[1])), settings),
    }


def array_part(raw: Raw, chosen: npt.NDArray[np.intp], settings: Settings) -> Part:
    """The images of some indices, scaled, and of the size and colour asked for.

    Raises:
        UserError: A colour is asked for, and the images have other than 1 or 3 channels.
    """
    x, y = raw
    params, pixel_max = settings.params, settings.entry.pixel_max
    reshaped = params.size is not None or params.colour is not None
    if params.colour and x.ndim == 4 and x.shape[3] not in (1, 3):
        raise UserError(
            f"{config.PARAMS}: normalize.colour: expected images of 1 or 3 channels, "
            f"found {x.shape[3]}.\nSet it to null."
        )

    def take(indices: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        return ready(x[chosen[indices]])

    def ready(some: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        scaled = scale(some, pixel_max)
        if not reshaped:
            return scaled
        from stages.lib.data.preparation import decoding

        return decoding.arrays(scaled, target(params))

    sizes = np.broadcast_to(np.array(x.shape[1:3], np.int64), (len(chosen), 2))
    return Part(ready(x[:1]).shape[1:], y[chosen].astype(np.int64), None, take, sizes)


def fitted(settings: Settings) -> tuple[str, float] | None:
    """How images were brought to one size, and before what background; None where they were not."""
    params = settings.params
    if settings.entry.format != IMAGES and params.size is None:
        return None
    return params.resize, 1.0 if params.background == "white" else 0.0


def write(
    parts: dict[str, Part],
    temporary: Path,
    settings: Settings,
    left_out: Sequence[tuple[str, str]] = (),
) -> inspection.Report:
    """Writes {train,validation,test}.npz in a folder; what the images are like."""
    entry = settings.entry
    inspector = inspection.Inspector(parts, catalogue.names(entry.class_names, "en"), left_out)
    print(f"{settings.dataset}, pixels 0 to {entry.pixel_max:g} to float32 0 to 1:")
    for name, part in parts.items():
        split = split_file.Split(
            images=np.broadcast_to(np.float32(0), (len(part.labels), *part.shape)),
            labels=part.labels,
            class_names=catalogue.names(entry.class_names, "en"),
            class_names_zh=catalogue.names(entry.class_names, "zh"),
            pixel_max=entry.pixel_max,
            names=part.names,
            fitted=fitted(settings),
        )
        path = temporary / f"{name}.npz"
        split_file.write(path, split, inspector.watched(name))
        print(
            f"  {name + ':':<12}images {split.images.shape}, labels {split.labels.shape}, "
            f"{path.stat().st_size / 1e6:.1f} MB in {(NORMALIZED / path.name).as_posix()}"
        )
    return inspector.report()


def write_report(report: inspection.Report) -> None:
    """Writes reports/data/, metrics.json last; warns of what is wrong."""
    with files.replacing(TABLES) as temporary:
        temporary.mkdir()
        for name, table in report.tables.items():
            files.write_csv(temporary / f"{name}.csv", table.header, table.rows)
    counts = report.metrics
    files.write_json(METRICS, counts)
    print(
        f"  duplicates within a split: {counts['duplicates']:,}; held-out images much like a "
        f"training image: {counts['near_duplicates']:,}; unusual images: "
        f"{counts['unusual_images']:,}; classes of fewer than {inspection.TINY} training images: "
        f"{counts['tiny_classes']:,}; "
        f"tables in {TABLES.as_posix()}/"
    )
    for flaw in flaws.flaws(counts):
        path = f"{TABLES.as_posix()}/{flaw.table}.csv"
        print(f"WARNING: {flaw.sentence} See {path}.", file=sys.stderr)


def image_parts(
    settings: Settings, scratch: BinaryIO
) -> tuple[dict[str, Part], list[tuple[str, str]]]:
    """The three splits of an archive of image files, and file and class of those left out.

    Raises:
        UserError: The archive or a file in it cannot be used; see the format.
    """
    entry, params = settings.entry, settings.params
    options = images.Options(
        target(params),
        params.test_fraction,
        params.validation_fraction,
        params.seed,
        params.unreadable == "skip",
    )
    paths = {part: raw_path(file) for part, file in entry.files.items()}
    class_names = catalogue.names(entry.class_names, "en")
    parts, survey = images.read(paths, class_names, options, scratch)
    for line in survey.lines():
        print(line)
    return parts, survey.left_out


def main(settings: Settings) -> None:
    """Writes data/normalized/{train,validation,test}.npz and reports/data/."""
    with files.replacing(NORMALIZED) as temporary:
        temporary.mkdir()
        if settings.entry.format == IMAGES:
            with files.scratch(temporary / "train.npz") as pixels:
                parts, left_out = image_parts(settings, pixels)
                report = write(parts, temporary, settings, left_out)
        else:
            report = write(array_parts(settings), temporary, settings)
    write_report(report)


if __name__ == "__main__":
    stage.run(read_settings, main, [RAW])
