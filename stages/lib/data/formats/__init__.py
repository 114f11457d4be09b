"""The raw formats of data sets: one module each, known by its file name.

A format is one file here. Its module states ``FILES``, the names of the files that it consists of
as an entry of datasets.yaml gives them, and ``read``, which takes their paths and returns the
training set and the test set as published::

    FILES = ("arrays",)

    def read(paths: Mapping[str, Path]) -> tuple[Raw, Raw]: ...
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import numpy.typing as npt

# images, N x H x W or N x H x W x C, of any number type; labels, N integers
Raw = tuple[npt.NDArray[Any], npt.NDArray[Any]]


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
