"""The images that a command names, and how each becomes what the model takes."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.lib import model_file
from stages.lib.core.errors import UserError
from stages.lib.data.preparation import archives, decoding, layouts
from stages.lib.wording import counted

Image = npt.NDArray[np.float32]
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_PACKED = (".zip", ".tar", ".tgz", ".tar.gz")
STDIN = "-"


@dataclass(frozen=True)
class Source:
    """An image file that has not been decoded.

    Attributes:
        name: What the answer calls it.
        read: Gives its content.
    """

    name: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Prepared:
    """What the model takes, H x W or H x W x C, 0 to 1.

    Attributes:
        image: Of a file.
        inverse: What it would be with dark and light exchanged, but for what pads it.
    """

    image: Image
    inverse: Image


Prepare = Callable[[Source], Prepared]


def find(file: str) -> Iterator[Source]:
    """The images that one word of the command names, in the order of their names.

    Raises:
        UserError: There is nothing of that name, or no image in it, or an archive is refused.
    """
    path = Path(file)
    if file == STDIN:
        if sys.stdin is None:
            raise UserError(
                f"{STDIN}: expected an image on the standard input, found it closed.\n"
                "Pipe one into it, or name a file."
            )
        yield Source(STDIN, sys.stdin.buffer.read)
    elif path.is_dir():
        inside = {part.relative_to(path).as_posix(): part for part in path.rglob("*")}
        names = _images(file, (name for name, part in inside.items() if part.is_file()))
        yield from (Source(inside[n].as_posix(), inside[n].read_bytes) for n in sorted(names))
    elif not path.exists():
        raise UserError(f"{file}: not found.\nName an image, a folder, an archive, or -.")
    elif file.lower().endswith(_PACKED):
        yield from _packed(path)
    else:
        yield Source(file, path.read_bytes)


def _packed(path: Path) -> Iterator[Source]:
    """The images of an archive, which is read once, as they are asked for in its order."""
    names = _images(path.as_posix(), (member.name for member in archives.members(path)))
    contents = archives.contents(path, set(names))

    def read() -> bytes:
        for _, content in contents:
            return content
        raise UserError(
            f"{path.as_posix()}: expected a whole archive, found images behind the damaged place, "
            "which were not read.\nPack it again, or fetch it again if it was cut off."
        )

    for name in names:
        yield Source(f"{path.as_posix()}:{name}", read)


def _images(file: str, names: Iterable[str]) -> list[str]:
    """Those that are called as images are; says on the standard error how many others there are."""
    tidy = [name for name in names if not layouts.is_litter(name)]
    images = [name for name in tidy if name.lower().endswith(SUFFIXES)]
    ends = f"Images end in {', '.join(SUFFIXES)}."
    if not images:
        raise UserError(f"{file}: expected images, found none.\n{ends}")
    if others := len(tidy) - len(images):
        print(f"{file}: {counted(others, 'file')} passed over. {ends}", file=sys.stderr)
    return images


def preparation(path: Path, metadata: model_file.Metadata, invert: bool, raw: bool) -> Prepare:
    """The function that makes of an image file what the model takes.

    Args:
        path: The model's file, for messages.
        metadata: What it says.
        invert: Whether dark becomes light.
        raw: Whether the file holds raw values of the data set, from 0 to its ``pixel_max``.

    Raises:
        UserError: The model takes images of 2, 4 or more channels.
    """
    shape = tuple(metadata.input_shape)
    if shape[2:] not in ((), (1,), (3,)):
        raise UserError(
            f"{path.as_posix()}: expected a model of images with 1 or 3 channels, found {shape}.\n"
            "Image files have no others; call the model on arrays."
        )
    background = round(decoding.WHITE * metadata.background)
    target = decoding.Target(
        (shape[0], shape[1]),
        "rgb" if shape[2:] == (3,) else "grey",
        metadata.resize,
        decoding.WHITE - background if invert else background,
    )
    exchanged = replace(target, background=decoding.WHITE - target.background)
    white = np.float32(metadata.pixel_max if raw else decoding.WHITE)

    def prepare(source: Source) -> Prepared:
        try:
            decoded = decoding.decode(source.read(), target.background)
        except decoding.UnreadableError as error:
            raise UserError(
                f"{source.name}: expected an image, found: {error}.\nMend it or leave it out."
            ) from None
        if raw and decoded.image.mode == "F":
            raise UserError(
                f"{source.name}: expected raw values of 8 bits, found {decoded.mode}, which is "
                f"scaled.\nCall the model on arrays of raw values divided by {white:g}."
            )
        pixels, inverse = (
            np.divide(decoding.array(decoded.image, each), white, dtype=np.float32)
            for each in (target, exchanged)
        )
        if pixels.max() > 1:
            raise UserError(
                f"{source.name}: expected raw values up to {white:g}, found "
                f"{pixels.max() * white:g}.\nLeave out --raw, or name files of raw values."
            )
        if invert:
            pixels = 1 - pixels
        else:
            inverse = 1 - inverse
        return Prepared(pixels.reshape(shape), inverse.reshape(shape))

    return prepare
