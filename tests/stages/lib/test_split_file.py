import hashlib
import os
import struct
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from zlib_ng import zlib_ng

from stages.lib import split_file
from stages.lib.core.errors import UserError
from tests.conftest import ROOT, Finished

SMALL = split_file.Split(
    images=np.arange(12, dtype=np.float32).reshape(3, 2, 2) / np.float32(16),
    labels=np.array([0, 1, 0]),
    class_names=["bag", "Ankle boot"],
    class_names_zh=["包", "短靴"],
    pixel_max=255.0,
)
MAKE_SMALL = """
import sys; from pathlib import Path; import numpy as np
from stages.lib import split_file
split_file.write(Path(sys.argv[1]), split_file.Split(
    np.arange(12, dtype=np.float32).reshape(3, 2, 2) / 16, np.array([0, 1, 0]),
    ["bag", "Ankle boot"], ["包", "短靴"], 255.0))
"""


def same(first: split_file.Split, second: split_file.Split) -> bool:
    return (
        np.array_equal(first.images[:], second.images[:])
        and np.array_equal(first.labels, second.labels)
        and first.class_names == second.class_names
        and first.class_names_zh == second.class_names_zh
        and first.pixel_max == second.pixel_max
    )


def test_how_images_were_fitted_is_read_back_and_left_out_where_they_were_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "split.npz"
    split_file.write(path, replace(SMALL, fitted=("crop", 1.0)))
    assert split_file.read(path).fitted == ("crop", 1.0)
    assert split_file.read_first(path, 1).fitted == ("crop", 1.0)
    split_file.write(path, SMALL)
    assert split_file.read(path).fitted is None
    with np.load(path) as arrays:
        assert "resize" not in arrays.files


def refusal(path: Path, read: Callable[[Path], object] = split_file.read) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 2
    return message


def packed(path: Path, name: str) -> bytes:
    """The compressed bytes of a member, found by the zip format's description."""
    with zipfile.ZipFile(path) as opened:
        member = opened.getinfo(f"{name}.npy")
    content = path.read_bytes()
    lengths = struct.unpack_from("<HH", content, member.header_offset + 26)
    start = member.header_offset + 30 + sum(lengths)
    return content[start : start + member.compress_size]


def test_numpy_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "train.npz"
    split_file.write(path, SMALL)
    with np.load(path, allow_pickle=False) as loaded:
        arrays = dict(loaded)
    assert {name: (array.dtype.str, array.shape) for name, array in arrays.items()} == {
        "images": ("<f4", (3, 2, 2)),
        "labels": ("<i8", (3,)),
        "class_names": ("<U10", (2,)),
        "class_names_zh": ("<U2", (2,)),
        "pixel_max": ("<f8", ()),
    }
    assert arrays["images"].ravel().tolist() == [n / 16 for n in range(12)]
    assert arrays["labels"].tolist() == [0, 1, 0]
    assert arrays["class_names"].tolist() == ["bag", "Ankle boot"]
    assert arrays["class_names_zh"].tolist() == ["包", "短靴"]
    assert arrays["pixel_max"] == 255


@pytest.mark.parametrize(
    "split",
    [
        pytest.param(SMALL, id="grey"),
        pytest.param(replace(SMALL, images=np.ones((3, 5, 4, 3), np.float32)), id="colour"),
        pytest.param(replace(SMALL, class_names_zh=[]), id="no Chinese names"),
        pytest.param(
            replace(SMALL, images=np.empty((0, 2, 2), np.float32), labels=np.empty(0, np.int64)),
            id="no images",
        ),
        pytest.param(
            replace(SMALL, images=np.moveaxis(np.ones((2, 2, 3), np.float32), 2, 0)), id="strided"
        ),
        pytest.param(
            replace(
                SMALL,
                images=np.random.default_rng(1).random((400, 30, 30), np.float32),
                labels=np.arange(400) % 2,
            ),
            id="longer than a chunk",
        ),
    ],
)
def test_a_split_survives_a_round_in_aligned_memory(
    tmp_path: Path, split: split_file.Split
) -> None:
    path = tmp_path / "train.npz"
    split_file.write(path, split)
    found = split_file.read(path)
    assert same(found, split)
    assert [array.dtype.name for array in (found.images, found.labels)] == ["float32", "int64"]
    for array in (found.images, found.labels):
        assert isinstance(array, np.ndarray)
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.ctypes.data % 64 == 0 or not array.size


def test_equal_splits_give_equal_bytes_also_in_another_process(
    tmp_path: Path, run: Callable[..., Finished]
) -> None:
    paths = [tmp_path / f"{name}.npz" for name in "abc"]
    split_file.write(paths[0], SMALL)
    os.utime(paths[0], (0, 0))
    split_file.write(paths[1], SMALL)
    assert run([sys.executable, "-c", MAKE_SMALL, str(paths[2])], ROOT).code == 0
    assert len({path.read_bytes() for path in paths}) == 1


def test_the_bytes_are_these_on_every_machine(tmp_path: Path) -> None:
    path = tmp_path / "small.npz"
    split_file.write(path, SMALL)
    assert (
        hashlib.sha256(path.read_bytes()).hexdigest()
        == "8bc9b1567e95b516e71f2275b1d04231c59f2464f39a36240f1336dd96fddbac"
    )


def test_the_compressor_is_zlib_ng(tmp_path: Path) -> None:
    # If zipfile's private attribute were gone, the standard zlib would write other bytes
    noise = np.random.default_rng(1).integers(0, 9, (40, 20, 20)).astype(np.float32)
    path = tmp_path / "train.npz"
    split_file.write(path, replace(SMALL, images=noise, labels=np.zeros(40, np.int64)))
    content = zlib_ng.decompress(packed(path, "images"), wbits=-15)
    compressor = zlib_ng.compressobj(2, zlib_ng.DEFLATED, -15)
    assert content.endswith(noise.tobytes())
    assert packed(path, "images") == compressor.compress(content) + compressor.flush()


def test_names_of_files_are_there_where_the_images_were_files(tmp_path: Path) -> None:
    path = tmp_path / "train.npz"
    names = ["oak/1.png", "oak/叶子.png", "beech/a long name.jpeg"]
    split_file.write(path, replace(SMALL, names=names))
    assert split_file.read(path).names == names
    assert split_file.read_first(path, 2).names == names[:2]
    with np.load(path, allow_pickle=False) as loaded:
        assert loaded["names"].tolist() == names
    whole = path.read_bytes()
    split_file.write(path, replace(SMALL, names=names))
    assert path.read_bytes() == whole
    split_file.write(path, SMALL)
    assert split_file.read(path).names is None
    with np.load(path, allow_pickle=False) as loaded:
        assert "names" not in loaded


@pytest.mark.parametrize("names", [np.array(["a", "b"]), np.arange(3), np.array([["a", "b", "c"]])])
def test_other_names_than_one_an_image_are_refused(tmp_path: Path, names: npt.NDArray[Any]) -> None:
    path = tmp_path / "train.npz"
    split_file.write(path, SMALL)
    with np.load(path) as loaded:
        arrays = dict(loaded)
    np.savez(path, **arrays, names=names)
    assert f"found: names of type {names.dtype} and shape {names.shape}" in refusal(path)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 99])
def test_read_first_gives_the_first_ones(tmp_path: Path, count: int) -> None:
    path = tmp_path / "train.npz"
    split_file.write(path, SMALL)
    found = split_file.read_first(path, count)
    assert np.array_equal(found.images[:], SMALL.images[:count])
    assert np.array_equal(found.labels, SMALL.labels[:count])
    assert found.class_names == SMALL.class_names


def test_read_first_unpacks_no_more_than_the_first_ones(tmp_path: Path) -> None:
    images = np.random.default_rng(1).random((2000, 30, 30), np.float32)
    path = tmp_path / "train.npz"
    split_file.write(path, replace(SMALL, images=images, labels=np.zeros(2000, np.int64)))
    content = bytearray(path.read_bytes())
    end = content.index(packed(path, "images")) + len(packed(path, "images"))
    content[end - 1_000_000 : end] = b"\xff" * 1_000_000  # the last of 7 MB
    path.write_bytes(content)
    assert np.array_equal(split_file.read_first(path, 5).images[:], images[:5])
    assert "as normalize writes it" in refusal(path)


def test_a_missing_archive_names_the_command_that_makes_it(tmp_path: Path) -> None:
    message = refusal(tmp_path / "train.npz")
    assert message.startswith(f"{(tmp_path / 'train.npz').as_posix()}: not found")
    assert "Run `dvc repro`" in message


def test_a_damaged_archive_is_refused_or_the_same(tmp_path: Path) -> None:
    path = tmp_path / "train.npz"
    split_file.write(path, SMALL)
    content = path.read_bytes()
    damaged = [content[:size] for size in range(0, len(content), 50)]
    for at in range(0, len(content), 5):
        byte = content[at] ^ (1, 0x80)[at % 2]
        damaged.append(content[:at] + bytes([byte]) + content[at + 1 :])
    refused = 0
    for each in damaged:
        path.unlink()  # some file systems take long to shorten a file
        path.write_bytes(each)
        try:
            assert same(split_file.read(path), SMALL)
        except UserError:
            refused += 1
    assert refused > len(damaged) / 2


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"images": None}, "images.npy"),
        ({"class_names_zh": None}, "class_names_zh.npy"),
        ({"images": np.zeros((3, 2, 2), np.uint8)}, "images of type uint8"),
        ({"images": np.zeros((3, 2), np.float32)}, "images of type float32 and shape (3, 2)"),
        ({"labels": np.zeros(3, np.int32)}, "labels of type int32"),
        ({"labels": np.zeros(4, np.int64)}, "labels of type int64 and shape (4,)"),
        ({"labels": np.array(0)}, "labels of type int64 and shape ()"),
        ({"images": np.zeros((2, 2, 3), np.float32).T}, "Fortran"),
        ({"class_names": np.array(["a", None])}, "Python objects"),
        ({"pixel_max": np.array([1.0, 2.0])}, "pixel_max [1. 2.]"),
        ({"pixel_max": np.array(1j)}, "pixel_max 1j"),
        ({"pixel_max": np.array(np.nan)}, "pixel_max nan"),
        ({"pixel_max": np.array(0.0)}, "pixel_max 0.0"),
        ({"images": np.zeros((3, 0, 2), np.float32)}, "which have no pixels"),
        ({"class_names": np.array("ab")}, "class_names of type <U2 and shape ()"),
        ({"class_names": np.array([1, 2])}, "class_names of type int64"),
        ({"class_names": np.array(["a", "a"])}, "class_names that do not differ"),
        ({"class_names": np.array(["a", " "])}, "class_names with control characters, or empty"),
        ({"class_names": np.array(["a", "b\r"])}, "class_names with control characters, or empty"),
        ({"class_names": np.array(["a", "\ud800"])}, "class_names with control characters"),
        ({"class_names_zh": np.array(["a"])}, "2 class_names and 1 class_names_zh"),
    ],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_of_other_arrays_is_refused(
    tmp_path: Path, save: Callable[..., None], changes: dict[str, npt.NDArray[Any]], found: str
) -> None:
    arrays = {
        "images": SMALL.images,
        "labels": SMALL.labels,
        "class_names": np.array(SMALL.class_names),
        "class_names_zh": np.array(SMALL.class_names_zh),
        "pixel_max": np.array(255.0),
    }
    path = tmp_path / "train.npz"
    save(path, **arrays)
    assert same(split_file.read(path), SMALL)
    given = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
    save(path, **given)
    for read in (split_file.read, lambda path: split_file.read_first(path, 99)):
        message = refusal(path, read)
        assert message.startswith(
            f"{path.as_posix()}: expected an .npz archive as normalize writes"
        )
        assert found in message
        assert message.endswith("\nDelete it and run `dvc repro`.")


@pytest.mark.parametrize(
    ("label", "said"),
    [(-1, "labels from -1 to 0"), (2, "labels from 0 to 2"), (77, "labels from 0 to 77")],
)
def test_labels_without_a_class_are_refused(tmp_path: Path, label: int, said: str) -> None:
    path = tmp_path / "train.npz"
    split_file.write(path, replace(SMALL, labels=np.array([0, label, 0])))
    assert f"{said}, of classes 0 to 1" in refusal(path)


@pytest.mark.parametrize("pixel", [np.nan, np.inf, -np.inf, -0.1, 1.5])
def test_pixels_out_of_range_are_refused(tmp_path: Path, pixel: float) -> None:
    path = tmp_path / "train.npz"
    images = SMALL.images[:].copy()
    images[1, 1, 0] = pixel
    split_file.write(path, replace(SMALL, images=images))
    assert ", not from 0 to 1" in refusal(path)


def test_a_size_that_no_memory_holds_is_refused_before_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "train.npz"
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 999, 999), }"
    content = b"\x93NUMPY\1\0" + struct.pack("<H", 118) + header.ljust(117).encode() + b"\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("images.npy", content)
    assert "not the values of shape (99999999999, 999, 999)" in refusal(path)


@pytest.mark.parametrize("header", [b"(" * 3000, b"{'descr': " + b"[" * 200, b"[x"])
def test_a_header_without_an_end_is_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "train.npz"
    content = b"\x93NUMPY\1\0" + struct.pack("<H", len(header) + 1) + header + b"\n"
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("images.npy", content)
    assert "expected an .npz archive as normalize writes it, found: " in refusal(path)


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.npz"
    for content in (b"", b"<html>", b"PK\3\4", b"\x93NUMPY"):
        path.write_bytes(content)
        assert "not a zip file" in refusal(path)


def test_images_in_pieces_are_the_same_images(tmp_path: Path) -> None:
    whole, pieces = tmp_path / "whole.npz", tmp_path / "pieces.npz"
    split_file.write(whole, SMALL)
    shape_alone = replace(SMALL, images=np.broadcast_to(np.float32(0), SMALL.images.shape))
    split_file.write(
        pieces, shape_alone, (SMALL.images[at : at + 1] for at in range(len(SMALL.images)))
    )
    assert np.array_equal(split_file.read(pieces).images[:], split_file.read(whole).images[:])
