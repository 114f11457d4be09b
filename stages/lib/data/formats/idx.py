"""The IDX files of MNIST: a big-endian header, then the values.

Source: http://yann.lecun.com/exdb/mnist/ ("the IDX file format"): two zero bytes, one byte for
the type, one for the number of dimensions, each dimension as a 32-bit integer, then the values.
"""

import gzip
import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stages.lib.core.errors import UserError
from stages.lib.data.formats import Raw

FILES = ("train_images", "train_labels", "test_images", "test_labels")

_UNSIGNED_BYTE = 0x08


def read(paths: Mapping[str, Path]) -> tuple[Raw, Raw]:
    """The training and the test set in four files, gzipped or plain.

    Raises:
        UserError: One of them is no IDX file of images or of labels.
    """
    return (
        (read_array(paths["train_images"], (3, 4)), read_array(paths["train_labels"], (1,))),
        (read_array(paths["test_images"], (3, 4)), read_array(paths["test_labels"], (1,))),
    )


def read_array(path: Path, dimensions: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """The array of unsigned bytes in an IDX file, gzipped or plain.

    Args:
        path: The file; gzip is recognized by its content.
        dimensions: The numbers of dimensions allowed, such as (3, 4) for images.

    Returns:
        uint8 of the shape that the header states.

    Raises:
        UserError: The magic number, type, dimensions or length are not as the format asks.
    """
    content = _content(path)
    if len(content) < 4:
        raise _broken(path, "a header of at least 4 bytes", f"{len(content)} bytes in all")
    if content[:2] != b"\0\0":
        raise _broken(path, "the magic number 0x0000 first", f"0x{content[:2].hex()}")
    kind, rank = content[2], content[3]
    if kind != _UNSIGNED_BYTE:
        raise _broken(path, "values of type 0x08 (unsigned byte)", f"type 0x{kind:02x}")
    if rank not in dimensions:
        raise _broken(
            path, f"{' or '.join(map(str, dimensions))} as number of dimensions", str(rank)
        )
    start = 4 + 4 * rank
    if len(content) < start:
        raise _broken(path, f"a header of {start} bytes", f"{len(content)} bytes in all")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", rank, 4))
    if 0 in shape:
        raise _broken(path, "sizes of 1 or more", f"shape {shape}")
    expected = start + math.prod(shape)  # which may exceed 64 bits
    if len(content) != expected:
        raise _broken(path, f"{expected} bytes for shape {shape}", f"{len(content)} bytes")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _content(path: Path) -> bytes:
    packed = path.read_bytes()
    if packed[:2] != b"\x1f\x8b":
        return packed
    try:
        return gzip.decompress(packed)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _broken(path, "a whole gzip file", str(error).rstrip(".")) from None


def _broken(path: Path, expected: str, found: str) -> UserError:
    return UserError(
        f"{path.as_posix()}: not an IDX file of images or labels: expected {expected}, "
        f"found {found}.\nReplace the file, or correct its format in datasets.yaml."
    )
