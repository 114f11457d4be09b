"""Makes a data set of pictures in folders: one folder a class.

    python -m tools.import_images FOLDER NAME [--size 28x28] [--colour] [--test-fraction 0.2]

The pictures are scaled to one size and saved as data/embedded/NAME.npz; the entry for
datasets.yaml is printed. Which pictures become the test set is drawn by class from --seed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image, UnidentifiedImageError

from stages.lib.core import files
from stages.lib.core.errors import UserError
from stages.lib.data.preparation.splits import hold_out

EMBEDDED = Path("data/embedded")
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def find(folder: Path) -> dict[str, list[Path]]:
    """The picture files of every class folder, in the order of their names.

    Raises:
        UserError: There is no such folder, or fewer than two classes with pictures.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder.\nGive the folder that holds one folder a class."
        )
    classes = {
        sub.name: sorted(path for path in sub.rglob("*") if path.suffix.lower() in SUFFIXES)
        for sub in sorted(folder.iterdir())
        if sub.is_dir()
    }
    filled = {name: paths for name, paths in classes.items() if paths}
    if len(filled) < 2:
        raise UserError(
            f"{folder}: expected at least two folders of pictures, found {len(filled)} "
            f"({', '.join(filled) or 'none'}).\nPictures end in {', '.join(sorted(SUFFIXES))}."
        )
    return filled


def load(path: Path, size: tuple[int, int], colour: bool) -> npt.NDArray[np.uint8]:
    """One picture as uint8, H x W or H x W x 3, scaled to ``size`` (width, height).

    Raises:
        UserError: The file is no picture.
    """
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB" if colour else "L").resize(size))
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path}: not a picture ({error}).\nMend or remove it.") from None


def entry(name: str, archive: Path, class_names: Sequence[str]) -> str:
    """The entry of datasets.yaml, to be completed by hand."""
    content = {
        name: {
            "title": name,
            "licence": "unknown",
            "citation": "unknown",
            "format": "npz",
            "urls": [],
            "files": {"arrays": {"name": archive.name, "sha256": files.sha256(archive)}},
            "pixel_max": 255,
            "class_names": list(class_names),
        }
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the archive and prints the entry."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.import_images", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    parser.add_argument("--size", default="28x28", help="width x height in pixels")
    parser.add_argument("--colour", action="store_true", help="keep three channels")
    parser.add_argument("--test-fraction", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    try:
        width, height = (int(number) for number in options.size.lower().split("x"))
        if min(width, height) < 1 or not 0 < options.test_fraction < 1:
            raise ValueError
    except ValueError:
        parser.error("--size is WIDTHxHEIGHT, such as 28x28; --test-fraction lies between 0 and 1")
    classes = find(options.folder)
    labels = np.repeat(np.arange(len(classes)), [len(paths) for paths in classes.values()])
    images = np.stack(
        [
            load(path, (width, height), options.colour)
            for paths in classes.values()
            for path in paths
        ]
    )
    train, test = hold_out(labels, options.test_fraction, options.seed)
    archive = EMBEDDED / f"{options.name}.npz"
    archive.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(archive) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            x_train=images[train],
            y_train=labels[train],
            x_test=images[test],
            y_test=labels[test],
        )
    print(entry(options.name, archive, list(classes)), end="")
    print(
        f"{len(train)} training and {len(test)} test images in {archive.as_posix()}.\n"
        f"Add the lines above to datasets.yaml and set `dataset: {options.name}` in params.yaml.",
        file=sys.stderr,
    )


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"ERROR: {error}")
