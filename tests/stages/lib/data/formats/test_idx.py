import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stages.lib.core.errors import UserError
from stages.lib.data.formats import idx

IMAGES = (3, 4)
LABELS = (1,)
# Two images of 1 x 2 pixels: 7 and 8; 9 and 255
TWO_IMAGES = bytes.fromhex("00000803 00000002 00000001 00000002 0708 09ff")
THREE_LABELS = bytes.fromhex("00000801 00000003 050004")


def file_of(folder: Path, content: bytes) -> Path:
    path = folder / "values-ubyte"
    path.write_bytes(content)
    return path


def test_images_have_the_shape_of_the_header(tmp_path: Path) -> None:
    images = idx.read_array(file_of(tmp_path, TWO_IMAGES), IMAGES)
    assert images.dtype == np.uint8
    assert images.tolist() == [[[7, 8]], [[9, 255]]]


def test_labels_have_one_dimension(tmp_path: Path) -> None:
    assert idx.read_array(file_of(tmp_path, THREE_LABELS), LABELS).tolist() == [5, 0, 4]


def test_gzip_is_known_by_its_content(tmp_path: Path) -> None:
    path = file_of(tmp_path, gzip.compress(THREE_LABELS))
    assert idx.read_array(path, LABELS).tolist() == [5, 0, 4]


def test_images_in_colour_have_four_dimensions(
    tmp_path: Path, write_idx: Callable[..., Path]
) -> None:
    colours = np.arange(2 * 3 * 4 * 3).reshape(2, 3, 4, 3)
    path = write_idx(tmp_path / "colours.gz", colours)
    assert (idx.read_array(path, IMAGES) == colours).all()


@pytest.mark.parametrize(
    ("content", "dimensions", "expected", "found"),
    [
        pytest.param(b"", LABELS, "at least 4 bytes", "0 bytes", id="empty file"),
        pytest.param(b"\0\0\x08", LABELS, "at least 4 bytes", "3 bytes", id="cut magic number"),
        pytest.param(b"\x01" + THREE_LABELS, LABELS, "0x0000", "0x0100", id="magic number"),
        pytest.param(b"PK\3\4" + THREE_LABELS, LABELS, "0x0000", "0x504b", id="zip archive"),
        pytest.param(b"<html>...", LABELS, "0x0000", "0x3c68", id="web page"),
        pytest.param(
            b"\0\0\x0d\1\0\0\0\1\0\0\0\0", LABELS, "type 0x08", "type 0x0d", id="type float"
        ),
        pytest.param(b"\0\0\x09\1\0\0\0\1\0", LABELS, "type 0x08", "type 0x09", id="type int8"),
        pytest.param(THREE_LABELS, IMAGES, "3 or 4", "found 1", id="labels for images"),
        pytest.param(TWO_IMAGES, LABELS, "expected 1 ", "found 3", id="images for labels"),
        pytest.param(b"\0\0\x08\0\7", LABELS, "expected 1 ", "found 0", id="no dimension"),
        pytest.param(TWO_IMAGES[:15], IMAGES, "16 bytes", "15 bytes", id="cut header"),
        pytest.param(TWO_IMAGES[:4], IMAGES, "16 bytes", "4 bytes", id="no sizes"),
        pytest.param(TWO_IMAGES[:-1], IMAGES, "20 bytes", "19 bytes", id="too short"),
        pytest.param(TWO_IMAGES + b"\0", IMAGES, "20 bytes", "21 bytes", id="too long"),
        pytest.param(b"\0\0\x08\1\0\0\0\0", LABELS, "1 or more", "(0,)", id="no labels"),
        pytest.param(
            struct.pack(">4B4I", 0, 0, 8, 4, 2**31, 2**31, 4, 1),
            IMAGES,
            f"{20 + 2**64} bytes",
            "20 bytes",
            id="sizes whose product is 0 modulo 2 ** 64",
        ),
        pytest.param(
            struct.pack(">4B4I", 0, 0, 8, 4, 0, 2**32 - 1, 2**32 - 1, 2**32 - 1),
            IMAGES,
            "1 or more",
            "shape (0, ",
            id="sizes that NumPy cannot hold, of nothing",
        ),
        pytest.param(
            gzip.compress(THREE_LABELS)[:-9], LABELS, "a whole gzip file", "ended", id="cut gzip"
        ),
        pytest.param(
            gzip.compress(THREE_LABELS)[:-6] + b"xxxxxx",
            LABELS,
            "a whole gzip file",
            "CRC",
            id="wrong checksum in gzip",
        ),
        pytest.param(b"\x1f\x8b\x08", LABELS, "a whole gzip file", "ended", id="gzip header only"),
        pytest.param(gzip.compress(b""), LABELS, "at least 4 bytes", "0 bytes", id="empty gzip"),
        pytest.param(
            gzip.compress(THREE_LABELS, mtime=0)[:10] + b"\xff" * 20,
            LABELS,
            "a whole gzip file",
            "",
            id="damaged gzip",
        ),
    ],
)
def test_a_broken_file_is_refused(
    tmp_path: Path, content: bytes, dimensions: tuple[int, ...], expected: str, found: str
) -> None:
    path = file_of(tmp_path, content)
    with pytest.raises(UserError) as caught:
        idx.read_array(path, dimensions)
    message = str(caught.value)
    assert message.startswith(path.as_posix())
    assert expected in message
    assert found in message
    assert message.endswith("\nReplace the file, or correct its format in datasets.yaml.")


def test_every_cut_is_refused(tmp_path: Path) -> None:
    for content in (TWO_IMAGES, gzip.compress(TWO_IMAGES, mtime=0)):
        for size in range(len(content)):
            with pytest.raises(UserError):
                idx.read_array(file_of(tmp_path, content[:size]), IMAGES)


@pytest.mark.parametrize(
    ("dataset", "counts"),
    [
        # The counts that the publishers state
        ("mnist", [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        ("fashion_mnist", [6000] * 10),
    ],
)
def test_the_real_files_hold_what_their_publishers_say(
    mirror: Path, dataset: str, counts: list[int]
) -> None:
    labels = idx.read_array(mirror / dataset / "train-labels-idx1-ubyte.gz", LABELS)
    images = idx.read_array(mirror / dataset / "t10k-images-idx3-ubyte.gz", IMAGES)
    assert np.bincount(labels).tolist() == counts
    assert images.shape == (10_000, 28, 28)
    assert (images.min(), images.max()) == (0, 255)
