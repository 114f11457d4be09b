"""Nothing that a file holds is executed: files that would leave a mark if it were."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import download
from stages.lib import model_file, split_file
from stages.lib.core.errors import UserError
from stages.lib.data.formats import npz
from stages.lib.training import checkpoint
from tests.faults.prepared import prepare

MARK = Path("executed")


class Attack:
    """An object whose unpickling leaves the mark."""

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return os.system, (f"touch {MARK}",)


def pickled(path: Path, *names: str) -> Path:
    """An .npz archive whose arrays are pickled objects."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = np.array([Attack()], dtype=object)
    np.savez(path, allow_pickle=True, **dict.fromkeys(names, content))
    return path


def parameters(folder: Path) -> object:
    prepare("download", folder / "made")
    os.chdir(folder / "made")
    command = f"!!python/object/apply:os.system ['touch {MARK.absolute()}']"
    Path("params.yaml").write_text(f"dataset: {command}\n", encoding="utf-8")
    return download.read_settings()


def raw_archive(folder: Path) -> object:
    return npz.read({"arrays": pickled(folder / "raw.npz", "x_train", "y_train", "x_test")})


def split(folder: Path) -> object:
    names = ("images", "labels", "class_names", "class_names_zh", "pixel_max")
    return split_file.read(pickled(folder / "train.npz", *names))


def saved_epoch(folder: Path) -> object:
    pickled(folder / checkpoint.FOLDER / "key.npz", "history", "variable0", "0", "arr_0")
    if checkpoint.Checkpoint("key").restore([]) == []:
        raise UserError("key.npz: damaged, and left alone")
    return None


def model(folder: Path) -> object:
    import keras

    attack = keras.layers.Lambda(
        lambda x: (__import__("os").system("touch executed"), x)[1], output_shape=(2,)
    )
    attack = keras.Sequential([keras.Input((2,)), attack])
    path = folder / "model.keras"
    model_file.save(attack, path)
    MARK.unlink(missing_ok=True)  # building it ran it
    with zipfile.ZipFile(path) as archive:
        assert b"__lambda__" in archive.read("config.json")
    return model_file.load(path)


def test_the_mark_is_left_where_a_file_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with np.load(pickled(tmp_path / "raw.npz", "a"), allow_pickle=True) as arrays:
        arrays["a"]
    assert MARK.exists()


@pytest.mark.usefixtures("tensorflow")
@pytest.mark.parametrize("read", [parameters, raw_archive, split, saved_epoch, model])
def test_nothing_in_a_file_is_executed(
    read: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        read(tmp_path)
    assert not (tmp_path / MARK).exists()
    assert not list(tmp_path.rglob(MARK.name))
