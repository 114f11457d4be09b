"""Memory that TensorFlow takes over without a copy."""

from typing import Any

import numpy as np
import numpy.typing as npt

BYTES = 64


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An uninitialized array whose data starts at a multiple of 64 bytes."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    memory = np.empty(size + BYTES, np.uint8)
    start = -memory.ctypes.data % BYTES
    return memory[start : start + size].view(dtype).reshape(shape)
