"""Archives of arrays that state one thing and hold another."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.lib.core.errors import UserError
from stages.lib.data.formats import npz

ARRAYS = {
    "x_train": np.arange(12, dtype=np.uint8).reshape(3, 2, 2),
    "y_train": np.array([0, 1, 0]),
    "x_test": np.arange(4, dtype=np.uint8).reshape(1, 2, 2),
    "y_test": np.array([1]),
}


def member(array: Any, version: tuple[int, int] = (1, 0)) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version)
    return stream.getvalue()


def archive(path: Path, method: int = zipfile.ZIP_DEFLATED, **changed: bytes) -> dict[str, Path]:
    with zipfile.ZipFile(path, "w", method) as made:
        for name, array in ARRAYS.items():
            made.writestr(f"{name}.npy", changed.get(name, member(array)))
    return {"arrays": path}


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_arrays_are_read_as_they_are(version: tuple[int, int], tmp_path: Path) -> None:
    changed = member(ARRAYS["x_train"], version)
    (x_train, y_train), (x_test, y_test) = npz.read(archive(tmp_path / "a.npz", x_train=changed))
    for name, found in zip(ARRAYS, (x_train, y_train, x_test, y_test), strict=True):
        assert np.array_equal(found, ARRAYS[name]), name


def test_labels_of_one_column_are_labels(tmp_path: Path) -> None:
    y_train, y_test = (member(ARRAYS[name][:, None]) for name in ("y_train", "y_test"))
    path = archive(tmp_path / "a.npz", y_train=y_train, y_test=y_test)
    (_, found), (_, of_test) = npz.read(path)
    assert (found.tolist(), of_test.tolist()) == ([0, 1, 0], [1])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda path: archive(path, zipfile.ZIP_BZIP2),
            "x_train packed by another method than numpy.savez uses",
        ),
        (
            lambda path: archive(path, x_train=member(ARRAYS["x_train"], (3, 0))),
            "x_train in version (3, 0) of the .npy format",
        ),
        (
            lambda path: archive(path, y_test=member(np.array([{}], object))),
            "y_test of Python objects",
        ),
        (
            lambda path: archive(path, y_test=member(ARRAYS["y_test"]) + b"0"),
            "y_test of another size than its header states",
        ),
        (
            lambda path: archive(path, x_test=member(ARRAYS["x_test"])[:-1]),
            "x_test of another size than its header states",
        ),
    ],
)
def test_an_archive_that_states_something_else_is_refused(
    make: Callable[[Path], dict[str, Path]], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        npz.read(make(tmp_path / "a.npz"))
    assert f"found: {reason}.\n" in str(caught.value)


def test_a_file_that_cannot_be_opened_is_named_by_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"a\.npz"):
        npz.read({"arrays": tmp_path / "a.npz"})
