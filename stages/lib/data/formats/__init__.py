"""The raw formats of data sets: one module each, known by its file name.

A format is one file here. Its module states ``FILES``, the names of the files that it consists of
as an entry of datasets.yaml gives them, and ``read``, which takes their paths and returns the
training set and the test set as published::

    FILES = ("arrays",)

    def read(paths: Mapping[str, Path]) -> tuple[Raw, Raw]: ...

``images`` alone reads differently: its images are no arrays yet.
"""

import importlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

_PIECE = 4096  # images that are float32 at once
_PIECE_VALUES = 1 << 23  # and their values

# images, N x H x W or N x H x W x C, of any number type; labels, N integers
Raw = tuple[npt.NDArray[Any], npt.NDArray[Any]]


@dataclass(frozen=True)
class Part:
    """One split of a data set, its images not all in memory.

    Attributes:
        shape: Of an image, H x W or H x W x C.
        labels: N integers.
        names: N names of files, where the images were files.
        take: Gives the images of some indices, float32 from 0 to 1, as an array of their own.
        sizes: Height and width of each image before it was scaled, N x 2.
    """

    shape: tuple[int, ...]
    labels: npt.NDArray[np.int64]
    names: list[str] | None
    take: Callable[[npt.NDArray[np.intp]], npt.NDArray[np.float32]]
    sizes: npt.NDArray[np.int64]

    def pieces(self) -> Iterator[npt.NDArray[np.float32]]:
        """All images in order, some at a time."""
        count = max(1, min(_PIECE, _PIECE_VALUES // math.prod(self.shape)))
        for start in range(0, len(self.labels), count):
            yield self.take(np.arange(start, min(start + count, len(self.labels))))


class Format(Protocol):
    """What a module of this folder offers."""

    FILES: tuple[str, ...]

    def read(self, paths: Mapping[str, Path]) -> tuple[Raw, Raw]:
        """The training set and the test set in the files at ``paths``, by the names of FILES.

        Raises:
            UserError: A file is not in this format.
        """
        ...


def by_name() -> dict[str, Format]:
    """Every format that there is, by its name."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    return {name: cast(Format, importlib.import_module(f"{__name__}.{name}")) for name in names}
