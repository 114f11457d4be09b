"""One split of a data set as an .npz archive.

NumPy and Keras read the archives as they read any other. They are written by zlib-ng and not by
the zlib that Python was linked to: that one differs from machine to machine, and its bytes with it.
"""

import math
import tokenize
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import numpy as np
import numpy.typing as npt
from zlib_ng import zlib_ng

from stages.lib.core import files, yaml_file
from stages.lib.core.errors import UserError
from stages.lib.stored_images import Images, StoredImages, aligned_empty

# On Fashion-MNIST as float32 (188 MB): level 1 takes 0.4 s for 61 MB, 2 takes 0.7 s for 41 MB,
# 3 takes 0.8 s for 40 MB, 6 takes 2.1 s for 39 MB.
_LEVEL = 2
_CHUNK = 1 << 20
_ARRAYS = ("images", "labels", "class_names", "class_names_zh", "pixel_max")
_OPTIONAL = ("names", "resize", "background")
IN_MEMORY = 1 << 29  # bytes of images; more of them are read where they lie
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip file can state

T = TypeVar("T")

# What zipfile, zlib-ng and NumPy raise on bytes that are not an archive of arrays
_BROKEN = (
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class Split:
    """Images and labels of one split, and what later stages need to know of the data set.

    Attributes:
        images: float32, N x H x W or N x H x W x C, 0 to 1: an array, or where that would be larger
            than ``IN_MEMORY``, images in a temporary file that are indexed like one.
        labels: int64, N, 0 to K - 1.
        class_names: K names, in English.
        class_names_zh: K names in Chinese, or none.
        pixel_max: The raw value that became 1.
        names: The names of the N image files, where the images were files.
        fitted: How images were brought to one size, where they were: ``normalize.resize``, and
            the background around them, 0 to 1.
    """

    images: Images
    labels: npt.NDArray[np.int64]
    class_names: list[str]
    class_names_zh: list[str]
    pixel_max: float
    names: list[str] | None = None
    fitted: tuple[str, float] | None = None


def write(
    path: Path, split: Split, pieces: Iterable[npt.NDArray[np.float32]] | None = None
) -> None:
    """Writes a split as .npz; equal splits give equal bytes.

    Args:
        path: The file.
        split: What to write.
        pieces: The images, piece by piece, where they are not to be in memory all at once;
            ``split.images`` then states their shape alone.
    """
    arrays: dict[str, Any] = {
        "images": split.images,
        "labels": split.labels,
        "class_names": np.array(split.class_names, dtype=np.str_),
        "class_names_zh": np.array(split.class_names_zh, dtype=np.str_),
        "pixel_max": np.array(split.pixel_max, dtype=np.float64),
    }
    if split.names is not None:
        arrays["names"] = np.array(split.names, dtype=np.str_)
    if split.fitted is not None:
        arrays["resize"] = np.array(split.fitted[0], dtype=np.str_)
        arrays["background"] = np.array(split.fitted[1], dtype=np.float64)
    with files.replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3  # else Windows writes another byte
            # Python chooses zip64 by it; forced, its headers changed with 3.11.4
            member.file_size = array.nbytes
            with archive.open(member, "w") as stream:
                # A private name; were it to go, the standard zlib would write as valid a file.
                stream._compressor = zlib_ng.compressobj(_LEVEL, zlib_ng.DEFLATED, -15)  # type: ignore[attr-defined]
                np.lib.format.write_array_header_1_0(
                    cast(BinaryIO, stream),
                    {
                        "descr": np.lib.format.dtype_to_descr(array.dtype),
                        "fortran_order": False,
                        "shape": array.shape,
                    },
                )
                given = ahead(pieces) if name == "images" and pieces is not None else [array]
                for piece in given:
                    _write_chunks(cast(BinaryIO, stream), np.asarray(piece, order="C"))


def read(path: Path) -> Split:
    """Reads a split.

    Raises:
        UserError: The file is missing or not such an archive.
    """
    return _read(path, None)


def read_first(path: Path, count: int) -> Split:
    """Reads the first ``count`` images and labels of a split, and unpacks no more than those.

    Raises:
        UserError: As ``read``.
    """
    return _read(path, count)


def _read(path: Path, count: int | None) -> Split:
    limits = {"images": count, "labels": count, "names": count}
    arrays: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            there = archive.namelist()
            optional = [name for name in _OPTIONAL if f"{name}.npy" in there]
            for name in (*_ARRAYS, *optional):
                member = archive.getinfo(f"{name}.npy")
                with archive.open(member) as stream:
                    stream._decompressor = zlib_ng.decompressobj(-15)  # type: ignore[attr-defined] # twice as fast
                    arrays[name] = _read_array(
                        cast(BinaryIO, stream), limits.get(name), member.file_size
                    )
        return _split(arrays)
    except FileNotFoundError:
        raise files.missing(path) from None
    except (*_BROKEN, zlib_ng.error) as error:  # type: ignore[misc] # the stub takes it for a value
        if isinstance(error, OSError) and error.filename:  # it cannot be opened
            raise
        raise UserError(
            f"{path.as_posix()}: expected an .npz archive as normalize writes it, found: "
            f"{' '.join(str(error).split()) or type(error).__name__}.\n"
            "Delete it and run `dvc repro`."
        ) from None


def _split(arrays: Mapping[str, Any]) -> Split:
    images, labels = arrays["images"], arrays["labels"]
    if images.dtype != np.float32 or images.ndim not in (3, 4):
        raise ValueError(f"images of type {images.dtype} and shape {images.shape}")
    if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
        raise ValueError(f"labels of type {labels.dtype} and shape {labels.shape}")
    if 0 in images.shape[1:]:
        raise ValueError(f"images of shape {images.shape[1:]}, which have no pixels")
    class_names = _names(arrays["class_names"], "class_names")
    class_names_zh = _names(arrays["class_names_zh"], "class_names_zh")
    if len(class_names_zh) not in (0, len(class_names)):
        raise ValueError(f"{len(class_names)} class_names and {len(class_names_zh)} class_names_zh")
    last = len(class_names) - 1
    if len(labels) and not (labels.min() >= 0 and labels.max() <= last):
        raise ValueError(f"labels from {labels.min()} to {labels.max()}, of classes 0 to {last}")
    if not isinstance(images, StoredImages):
        _check_pixels(images)
    pixel_max = arrays["pixel_max"]
    if pixel_max.shape or pixel_max.dtype != np.float64 or not 0 < pixel_max < math.inf:
        raise ValueError(f"pixel_max {str(pixel_max)[:40]}")
    names = arrays.get("names")
    if names is not None and (names.dtype.kind != "U" or names.shape != labels.shape):
        raise ValueError(f"names of type {names.dtype} and shape {names.shape}")
    return Split(
        images=images,
        labels=labels,
        class_names=class_names,
        class_names_zh=class_names_zh,
        pixel_max=float(pixel_max),
        names=None if names is None else [str(name) for name in names],
        fitted=(str(arrays["resize"]), float(arrays["background"])) if "resize" in arrays else None,
    )


def _check_pixels(pixels: npt.NDArray[np.float32]) -> None:
    if pixels.size and not (pixels.min() >= 0 and pixels.max() <= 1):  # as is so for NaN
        raise ValueError(f"pixels from {pixels.min():g} to {pixels.max():g}, not from 0 to 1")


def _names(array: npt.NDArray[Any], what: str) -> list[str]:
    """Names that differ, which can be printed."""
    names: list[str] = array.tolist()
    if array.ndim != 1 or (names and array.dtype.kind != "U"):
        raise ValueError(f"{what} of type {array.dtype} and shape {array.shape}")
    if any(not name.strip() or yaml_file.UNPRINTABLE.search(name) for name in names):
        raise ValueError(f"{what} with control characters, or empty")
    if len(set(names)) < len(names):
        raise ValueError(f"{what} that do not differ")
    return names


def _read_array(
    stream: BinaryIO, count: int | None, file_size: int
) -> npt.NDArray[Any] | StoredImages:
    """One .npy member of an archive; at most ``count`` entries of its first axis.

    An array is in aligned memory; whole images that are larger than ``IN_MEMORY`` are in a file.
    """
    np.lib.format.read_magic(stream)
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject or fortran_order:
        raise ValueError("an array of Python objects or in Fortran's order")
    if stream.tell() + math.prod(shape) * dtype.itemsize != file_size:
        raise ValueError(f"not the values of shape {shape}")
    if count is not None and shape:
        shape = (min(count, shape[0]), *shape[1:])
    size = math.prod(shape) * dtype.itemsize
    if count is None and size > IN_MEMORY and dtype == np.float32 and len(shape) in (3, 4):
        return StoredImages(shape, _checked(_chunks(stream, size)))
    data, at = aligned_empty((size,), np.uint8), 0
    for part in _chunks(stream, size):
        data[at : at + len(part)] = np.frombuffer(part, np.uint8)
        at += len(part)
    return data.view(dtype).reshape(shape)


def _chunks(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """So many bytes of a stream, chunk by chunk."""
    for at in range(0, size, _CHUNK):
        wanted = min(_CHUNK, size - at)
        part = stream.read(wanted)
        if len(part) != wanted:
            raise EOFError("it ends early")
        yield part


def _checked(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks themselves, of pixels from 0 to 1."""
    for chunk in chunks:
        _check_pixels(np.frombuffer(chunk, np.float32))
        yield chunk


def ahead(pieces: Iterable[T]) -> Iterator[T]:
    """The pieces themselves, the next of which is made by a thread while one is in use."""
    iterator, end = iter(pieces), object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, iterator, end)
        while (piece := coming.result()) is not end:
            coming = pool.submit(next, iterator, end)
            yield cast(T, piece)


def _write_chunks(stream: BinaryIO, array: npt.NDArray[Any]) -> None:
    flat = memoryview(cast(Any, array.reshape(-1).view(np.uint8)))
    stream.writelines(flat[at : at + _CHUNK] for at in range(0, len(flat), _CHUNK))
