"""MNIST as the peers read it: the published files, out of a mirror's folder."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = tuple[npt.NDArray[Any], npt.NDArray[Any]]


def raw(folder: str) -> tuple[Arrays, Arrays]:
    """Training and test images (uint8, N x 28 x 28) and labels (uint8, N)."""

    def values(name: str, start: int) -> npt.NDArray[np.uint8]:
        content = gzip.decompress((Path(folder) / "mnist" / name).read_bytes())
        return np.frombuffer(content, np.uint8, offset=start)

    images, labels = "images-idx3-ubyte.gz", "labels-idx1-ubyte.gz"
    return (
        (values(f"train-{images}", 16).reshape(-1, 28, 28), values(f"train-{labels}", 8)),
        (values(f"t10k-{images}", 16).reshape(-1, 28, 28), values(f"t10k-{labels}", 8)),
    )


def scaled(folder: str) -> tuple[Arrays, Arrays]:
    """The same as float32 from 0 to 1, labels as int32."""
    (a, b), (c, d) = raw(folder)
    scale = np.float32(255)
    return (a / scale, b.astype(np.int32)), (c / scale, d.astype(np.int32))
