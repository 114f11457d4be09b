"""Images that are read where they lie, in a temporary file, when they do not fit into memory well.

Reading by position and not by a memory map: mapped pages count as memory of the process, and a map
of a file larger than a limit on address space cannot be made.
"""

import math
import tempfile
import threading
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

ALIGNMENT = 64  # bytes; of memory that TensorFlow takes over without a copy
FOLDER = Path(".checkpoints")  # on the project's own disk; a system's /tmp may be memory
PIECE = 1 << 26  # bytes of images that are in memory at once

Indices = npt.NDArray[np.integer[Any]] | Sequence[int]


class StoredImages:
    """Images of one shape in a file of its own, read as those of an array are.

    ``images[3]``, ``images[10:20]`` and ``images[[4, 2]]`` are arrays in memory, as are ``shape``,
    ``ndim``, ``size``, ``nbytes`` and ``dtype`` those of an array. Several threads may read. The
    file lies in ``FOLDER`` without a name, and is gone as soon as nobody uses the images or the
    process ends.

    Args:
        shape: N x H x W or N x H x W x C.
        pieces: The bytes of the images, float32, in order.

    Raises:
        OSError: The file cannot be written; its ``filename`` is ``FOLDER``.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, shape: tuple[int, ...], pieces: Iterable[bytes]) -> None:
        self.shape = shape
        self._lock = threading.Lock()
        try:
            FOLDER.mkdir(exist_ok=True)
            # Closed with the last who uses the images, which no block of code knows
            self._file = cast(IO[bytes], tempfile.TemporaryFile(dir=FOLDER, buffering=0))  # noqa: SIM115
            weakref.finalize(self, self._file.close)
            for piece in pieces:
                _write(self._file, piece)
        except OSError as error:
            error.filename, error.filename2 = FOLDER.as_posix(), None
            raise

    def __len__(self) -> int:
        """N."""
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """3 or 4."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of values of all images."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of all images."""
        return self.size * self.dtype.itemsize

    def __getitem__(self, key: int | slice | Indices) -> npt.NDArray[np.float32]:
        """The images of an index, a slice or some indices.

        Raises:
            IndexError: There is no such image.
        """
        if isinstance(key, slice):
            chosen: Sequence[int] = range(len(self))[key]
        elif isinstance(key, int | np.integer):
            image: npt.NDArray[np.float32] = self[[int(key)]][0]
            return image
        else:
            chosen = [range(len(self))[index] for index in np.asarray(key).tolist()]
        images = aligned_empty((len(chosen), *self.shape[1:]), self.dtype)
        self.read_into(images, chosen)
        return images

    def read_into(self, images: npt.NDArray[np.float32], indices: Sequence[int]) -> None:
        """Fills the first of ``images`` with those of some indices, from 0 to N - 1."""
        if not len(indices):
            return
        size = self.nbytes // len(self)
        starts, end = [index * size for index in indices], (indices[0] + len(indices)) * size
        if starts == list(range(starts[0], end, size)):  # they lie in a row
            starts, size = starts[:1], size * len(starts)
        memory = images.data.cast("B")
        with self._lock:
            for row, start in enumerate(starts):
                self._file.seek(start)
                _read(self._file, memory[row * size : (row + 1) * size])


Images = npt.NDArray[np.float32] | StoredImages  # in memory or not, indexed alike


def _write(file: IO[bytes], piece: bytes) -> None:
    memory = memoryview(piece)
    while memory:
        memory = memory[file.write(memory) :]


def _read(file: IO[bytes], memory: memoryview) -> None:
    while memory:
        count = file.readinto(memory)  # type: ignore[attr-defined] # a file has it
        if not count:
            raise EOFError("the temporary file of the images ends early")
        memory = memory[count:]


def at_once(shape: Sequence[int], most: int) -> int:
    """How many images of a shape (H x W or H x W x C) to hold at once: ``most``, or fewer."""
    return max(1, min(most, PIECE // (4 * math.prod(shape))))


def aligned_empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An uninitialized array in memory that TensorFlow takes over without a copy.

    Its data starts at a multiple of ``ALIGNMENT`` bytes.
    """
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
