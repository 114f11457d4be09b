"""An image file as an array: decoded in full, upright, without transparency, of one size.

Normalize and whoever asks the model about a file of their own read it by the same functions, so
that both see the same pixels. Importing this module imports Pillow.
"""

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import (  # the plugins make themselves known when they are imported
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)
from zlib_ng import zlib_ng

KINDS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
MOST_PIXELS = 178_956_970  # of one image; beyond it Pillow itself speaks of a bomb
WHITE = 255  # the values of a decoded image run from 0 to it

_ORIENTATION = 0x0112  # a tag of EXIF, which is TIFF
_PHOTOMETRIC = 262  # a tag of TIFF; 0 says that 0 is white
_BITS = 258  # a tag of TIFF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
Image.MAX_IMAGE_PIXELS = None  # MOST_PIXELS is checked here, and named
# Memory of images is kept for the next ones: given back each time, it takes a third of the time
Image.core.set_blocks_max(8)  # type: ignore[attr-defined] # documented, not exported


class UnreadableError(Exception):
    """Content that is no whole image; the message says why."""


@dataclass(frozen=True)
class Decoded:
    """An image file, decoded.

    Attributes:
        image: Of Pillow's mode L (grey), RGB, or F (grey in floats, of deeper files); 0 to WHITE.
        kind: The format of the file, by its content.
        mode: Pillow's name for how the file stores its pixels.
        notes: What was done to it beyond decoding, in words.
    """

    image: Image.Image
    kind: str
    mode: str
    notes: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Equal for equal decoded pixels, whatever the file: grey stored as colours is grey."""
        image, mode = self.image, self.image.mode
        pixels = image.tobytes()
        if mode == "RGB" and _is_colourless(pixels):
            mode, pixels = "L", pixels[::3]
        # Two checksums, as a hash would take longer than a JPEG's decoding
        sums = f"{zlib_ng.crc32(pixels):08x}{zlib_ng.adler32(pixels):08x}"
        return f"{mode} {image.width} x {image.height} {sums}"


@dataclass(frozen=True)
class Target:
    """What images are to become.

    Attributes:
        size: Height and width; None leaves each as it is.
        colour: ``grey``, ``rgb``, or None, which leaves each as it is.
        resize: ``pad`` and ``crop`` keep the proportions, ``stretch`` does not.
        background: Of transparent and of padded images, 0 to WHITE.
    """

    size: tuple[int, int] | None = None
    colour: str | None = None
    resize: str = "pad"
    background: int = WHITE


def _is_colourless(pixels: bytes) -> bool:
    """Whether red, green and blue are equal; most photos show at once that they are not."""
    first = pixels[:300]
    return all(content[::3] == content[1::3] == content[2::3] for content in (first, pixels))


@contextmanager
def quietly() -> Iterator[None]:
    """A block without Pillow's warnings of odd metadata; not to be entered by several threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def decode(content: bytes, background: int = WHITE) -> Decoded:
    """A file's content as an image, whatever its name: all of it, upright and opaque.

    Of an animation the first frame. Grey of 16 bits is scaled by the range of its type; other deep
    grey, such as floats, from 0 to 1 where its values lie within, else from its lowest to its
    highest value. Transparency is laid over ``background``, a grey from 0 to WHITE.

    Raises:
        UnreadableError: It is none of KINDS, cut off, damaged, or larger than MOST_PIXELS.
    """
    try:
        with Image.open(io.BytesIO(content), formats=KINDS) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise UnreadableError(
                    f"{opened.width:,} x {opened.height:,} pixels, more than {MOST_PIXELS:,}"
                )
            lies = _orientation(opened)
            _fit_key(opened)
            opened.load()  # which turns a TIFF, and takes its tag away
            return _plain(opened, background, lies)
    except UnidentifiedImageError:
        reason = "no BMP, GIF, JPEG, PNG, TIFF or WebP" if content else "an empty file"
        raise UnreadableError(reason) from None
    except (UnreadableError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes Pillow raise whatever its bytes lead to
        reason = " ".join(str(error).split())[:120].rstrip(".") or type(error).__name__
        raise UnreadableError(reason) from None


def array(image: Image.Image, target: Target) -> npt.NDArray[Any]:
    """A decoded image of the target's size and colour, H x W or H x W x 3, 0 to WHITE.

    Returns:
        uint8, or float32 of deep images.
    """
    if target.colour == "grey" and image.mode == "RGB":
        image = image.convert("L")
    if target.size:
        image = fit(image, target.size, target.resize, target.background)
    pixels = np.asarray(image)
    if target.colour == "rgb" and image.mode != "RGB":
        pixels = np.stack([pixels] * 3, axis=-1)
    return pixels.clip(0, WHITE) if image.mode == "F" else pixels


def arrays(images: npt.NDArray[Any], target: Target) -> npt.NDArray[np.float32]:
    """Arrays of images as files of the same pixels would become.

    Args:
        images: float32, N x H x W or N x H x W x C, 0 to 1.
        target: What they are to become.

    Returns:
        float32 of the target's size and colour.
    """
    grey = images.ndim == 3 or images.shape[3] == 1
    if not grey and target.colour and images.shape[3] != 3:
        raise ValueError(f"{images.shape[3]} channels")
    planes = images[..., None] if images.ndim == 3 else images
    if target.colour == "grey" and not grey:
        planes = _grey(planes)[..., None]
    if target.size:
        planes = np.stack([_fit_planes(image, target) for image in planes])
    if target.colour == "rgb" and grey:
        planes = np.repeat(planes, 3, axis=3)
    flat = target.colour == "grey" or (grey and images.ndim == 3 and target.colour is None)
    return planes[..., 0] if flat else planes


def fit(image: Image.Image, size: tuple[int, int], resize: str, background: int) -> Image.Image:
    """An image of height and width ``size``, antialiased; see Target."""
    height, width = size
    if image.size == (width, height):
        return image
    scale = {"pad": min, "crop": max}.get(resize)
    if scale is None:
        return _resized(image, width, height)
    factor = scale(width / image.width, height / image.height)
    if resize == "crop":
        across, down = width / factor, height / factor
        left, top = (image.width - across) / 2, (image.height - down) / 2
        box = (max(left, 0), max(top, 0), min(left + across, image.width), top + down)
        return _resized(image, width, height, (*box[:3], min(box[3], image.height)))
    inner = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    padded = Image.new(image.mode, (width, height), _grey_of(image.mode, background))
    padded.paste(_resized(image, *inner), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return padded


def _resized(
    image: Image.Image,
    width: int,
    height: int,
    box: tuple[float, float, float, float] | None = None,
) -> Image.Image:
    """Bilinear over all pixels that fall into one; large ones are first averaged by whole steps."""
    return image.resize((width, height), Image.Resampling.BILINEAR, box, reducing_gap=3.0)


def _fit_planes(image: npt.NDArray[np.float32], target: Target) -> npt.NDArray[np.float32]:
    assert target.size is not None  # noqa: S101 what the caller asked
    planes = [
        np.asarray(
            fit(
                Image.fromarray(image[..., channel] * np.float32(WHITE)),
                target.size,
                target.resize,
                target.background,
            )
        )
        for channel in range(image.shape[2])
    ]
    stacked = np.stack(planes, axis=-1).astype(np.float32)
    return (stacked / np.float32(WHITE)).clip(0, 1)


def _grey(colours: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The luma of ITU-R 601, which Pillow takes for grey too."""
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    grey: npt.NDArray[np.float32] = np.clip(colours @ weights, 0, 1).astype(np.float32)
    return grey


def _grey_of(mode: str, value: int) -> Any:
    return (value,) * 3 if mode == "RGB" else value


def _plain(opened: Image.Image, background: int, lies: int) -> Decoded:
    """An opened and loaded image in one of three modes, with what was done to it."""
    several = opened.format == "MPO"  # a JPEG, with others behind it
    kind, mode = "JPEG" if several else str(opened.format), opened.mode
    notes = []
    if mode[0] in "IF":
        image, note = _shallow(opened, background)
        notes.append(note)
        if opened.has_transparency_data:
            notes.append("transparent, over the background")
    elif opened.has_transparency_data:
        image = _opaque(opened, background)
        notes.append("transparent, over the background")
    else:
        image = opened.convert("L" if _is_grey(opened) else "RGB")
        if mode == "CMYK":
            notes.append("CMYK, without its colour profile")
    turn = _TURNS.get(_orientation(opened))
    if turn is not None:
        image = image.transpose(turn)
    if lies in _TURNS:
        notes.append("turned upright as EXIF says")
    if not several and _is_animated(opened):
        notes.append("of several frames, the first of them")
    return Decoded(image, kind, mode, tuple(notes))


def _is_animated(opened: Image.Image) -> bool:
    try:
        return bool(getattr(opened, "is_animated", False))
    except Exception:  # a second frame that is damaged
        return True


def _is_grey(opened: Image.Image) -> bool:
    if opened.mode == "P":
        palette = opened.getpalette("RGB") or []
        return palette[::3] == palette[1::3] == palette[2::3]
    return opened.mode in ("1", "L", "LA", "La")


def _opaque(opened: Image.Image, background: int) -> Image.Image:
    grey = opened.mode in ("1", "L", "LA", "La") or _is_grey(opened)
    layer = opened.convert("RGBA")
    below = Image.new("RGBA", layer.size, (background, background, background, WHITE))
    return Image.alpha_composite(below, layer).convert("L" if grey else "RGB")


def _fit_key(opened: Image.Image) -> None:
    """Makes a PNG's transparent colour one of its pixels: Pillow scales these and not the colour.

    Of 16 bits a colour Pillow keeps 8: colours that differ in the others become transparent too.
    """
    key = opened.info.get("transparency")
    stored = opened.tile[0].args if opened.format == "PNG" and opened.tile else ""  # type: ignore[attr-defined] # an opened file has it
    if isinstance(key, int) and stored in ("L;2", "L;4"):
        opened.info["transparency"] = key * {"L;2": 85, "L;4": 17}[stored]
    if isinstance(key, tuple) and stored == "RGB;16B":
        opened.info["transparency"] = tuple(part >> 8 for part in key)


def _shallow(opened: Image.Image, background: int) -> tuple[Image.Image, str]:
    """Deep grey as floats from 0 to WHITE, and how it was scaled."""
    values = np.asarray(opened).astype(np.float64)
    key = opened.info.get("transparency")
    transparent = values == key if isinstance(key, int) else np.zeros(values.shape, bool)
    if not np.isfinite(values).all():
        raise UnreadableError("pixels that are no finite numbers")
    low, high = float(values.min()), float(values.max())
    tags: Any = getattr(opened, "tag_v2", {})
    if opened.mode != "F" and (opened.mode != "I" or low >= 0) and high <= 65535:
        bits = tags.get(_BITS, (16,))[0] if opened.mode != "I" else 16
        low, high = 0.0, float(2**bits - 1)
        note = f"of {bits} bits, scaled from 0 to {high:.0f}"
    elif opened.mode == "F" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
        note = "of floats, scaled from 0 to 1"
    else:
        note = "of other numbers, each scaled from its lowest to its highest"
    values = (values - low) * (WHITE / (high - low) if high > low else 0)
    if tags.get(_PHOTOMETRIC) == 0:
        values = WHITE - values
    values[transparent] = background
    return Image.fromarray(values.clip(0, WHITE).astype(np.float32)), note


def _orientation(opened: Image.Image) -> int:
    """How the camera was held, 1 to 8; 1 where nothing readable says so."""
    if opened.format == "TIFF":
        tag = getattr(opened, "tag_v2", {}).get(_ORIENTATION, 1)
        return tag if isinstance(tag, int) else 1
    try:
        return _exif_orientation(bytes(opened.info.get("exif") or b""))
    except (struct.error, TypeError, ValueError):
        return 1


def _exif_orientation(exif: bytes) -> int:
    """The orientation in EXIF data, of which nothing else has to be whole.

    Source: TIFF 6.0, section 2: byte order, 42, the offset of a directory; there the number of its
    entries, and each as tag, type, count and value in 12 bytes.
    """
    data = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return 1
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    for entry in range(count):
        at = start + 2 + 12 * entry
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", data, at)
        if tag == _ORIENTATION:
            return int(value)
    return 1
