"""Stored images are indexed as an array is, and their file leaves nothing behind."""

import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from stages.lib.stored_images import FOLDER, StoredImages, at_once

RANDOM = np.random.default_rng(1)
KEYS: list[Any] = [
    0, -1, np.int64(3), slice(None), slice(2, 5), slice(None, None, 3), slice(5, 2),
    slice(8, 1, -2), [], [4], [0, 0, 2], [1, 1, 1], [0, 1, 2], [2, 1, 0], [-1, 0], [3, 5, 4, 6],
    np.array([9, 0, 9]), RANDOM.permutation(10), RANDOM.integers(0, 10, 30),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def stored(images: npt.NDArray[np.float32], piece: int = 100) -> StoredImages:
    content = images.tobytes()
    pieces = (content[at : at + piece] for at in range(0, len(content), piece))
    return StoredImages(images.shape, pieces)


@pytest.mark.parametrize("shape", [(10, 4, 3), (10, 2, 5, 3), (10, 1, 1)], ids=str)
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_it_is_indexed_as_an_array_is(key: Any, shape: tuple[int, ...]) -> None:
    images = RANDOM.random(shape, np.float32)
    found = stored(images)
    chosen = np.array(key, np.intp) if isinstance(key, list) else key
    assert np.array_equal(found[key], images[chosen])
    assert found[key].dtype == np.float32
    facts = ("shape", "ndim", "size", "nbytes", "dtype")
    assert [getattr(found, fact) for fact in facts] == [getattr(images, fact) for fact in facts]
    assert len(found) == 10


@pytest.mark.parametrize("key", [10, -11, [0, 10]])
def test_there_is_no_other_image(key: Any) -> None:
    with pytest.raises(IndexError):
        stored(np.zeros((10, 2, 2), np.float32))[key]


def test_a_part_of_a_larger_array_is_filled() -> None:
    images = RANDOM.random((6, 2, 2), np.float32)
    room = np.full((4, 2, 2), 7, np.float32)
    stored(images).read_into(room, [5, 3])
    assert np.array_equal(room[:2], images[[5, 3]])
    assert (room[2:] == 7).all()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_the_file_has_no_name_and_goes_with_the_images() -> None:
    def opened() -> list[str]:
        links = Path(f"/proc/{os.getpid()}/fd").iterdir()
        names = []
        for link in links:
            with contextlib.suppress(OSError):  # the one by which they were listed is closed
                names.append(str(link.readlink()))
        return [name for name in names if str(FOLDER) in name]

    images: StoredImages | None = stored(np.zeros((10, 2, 2), np.float32))
    assert list(FOLDER.iterdir()) == []
    assert len(opened()) == 1
    assert images is not None
    images = None
    gc.collect()
    assert opened() == []


def test_a_write_that_fails_is_about_the_folder() -> None:
    def pieces() -> Iterator[bytes]:
        yield bytes(16)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        StoredImages((2, 2, 2), pieces())
    assert caught.value.filename == ".checkpoints"


def test_how_many_images_at_once() -> None:
    assert at_once((28, 28), 1000) == 1000
    assert at_once((224, 224, 3), 1000) == 111  # of 64 MiB
    assert at_once((8192, 8192), 1000) == 1
