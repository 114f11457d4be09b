"""One NumPy archive of x_train, y_train, x_test and y_test, as Keras publishes its data sets."""

import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.lib.core.errors import UserError
from stages.lib.data.formats import Raw

FILES = ("arrays",)
_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
_LARGEST = 1 << 40  # bytes of an array; a header may state any shape

# What zipfile and NumPy raise on bytes that are not an archive of arrays
_BROKEN = (
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def read(paths: Mapping[str, Path]) -> tuple[Raw, Raw]:
    """The training and the test set in an archive as Keras makes them.

    Raises:
        UserError: It is no such archive.
    """
    path = paths["arrays"]
    try:
        with zipfile.ZipFile(path) as archive:
            x_train, y_train, x_test, y_test = (_array(archive, name) for name in _ARRAYS)
    except _BROKEN as error:
        if isinstance(error, OSError) and error.filename:  # it cannot be opened
            raise
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(
            f"{path.as_posix()}: expected an .npz archive of x_train, y_train, x_test and y_test, "
            f"found: {reason}.\nSave one with numpy.savez_compressed."
        ) from None
    return (x_train, _flat(y_train)), (x_test, _flat(y_test))


def _flat(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Labels of N x 1, as Keras has those of CIFAR, as N."""
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _array(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    """One array; its header is held against the size of the member before memory is taken."""
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} packed by another method than numpy.savez uses")
    with archive.open(member) as stream:
        head = io.BytesIO(stream.read(1 << 16))
        version = np.lib.format.read_magic(head)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{name} in version {version} of the .npy format")
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = reader(head)
        size = math.prod(shape) * dtype.itemsize
        if dtype.hasobject:
            raise ValueError(f"{name} of Python objects")
        if size > _LARGEST or head.tell() + size != member.file_size:
            raise ValueError(f"{name} of another size than its header states")
    with archive.open(member) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)
