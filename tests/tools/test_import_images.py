from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from stages.lib.core.errors import UserError
from tools import import_images


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten black and ten white pictures of another size, in two folders."""
    monkeypatch.chdir(tmp_path)
    for name, value in (("black", 0), ("white", 255)):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for index in range(10):
            Image.new("RGB", (20, 10), (value, value, value)).save(folder / f"{index}.png")
    return tmp_path / "pictures"


@pytest.mark.parametrize(("options", "shape"), [([], (7, 5)), (["--colour"], (7, 5, 3))])
def test_makes_an_archive_and_its_entry(
    options: list[str],
    shape: tuple[int, ...],
    pictures: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import_images.main([str(pictures), "tones", "--size", "5x7", *options])
    with np.load("data/embedded/tones.npz") as arrays:
        assert arrays["x_train"].shape == (16, *shape)
        assert arrays["x_test"].shape == (4, *shape)
        assert arrays["y_test"].tolist() == [0, 0, 1, 1]
        assert (arrays["x_train"][arrays["y_train"] == 1] == 255).all()
        assert (arrays["x_train"][arrays["y_train"] == 0] == 0).all()
    entry = yaml.safe_load(capsys.readouterr().out)["tones"]
    assert entry["class_names"] == ["black", "white"]
    assert entry["files"]["arrays"]["name"] == "tones.npz"


def test_the_pipeline_takes_what_was_made(
    pictures: Path,
    project: Any,
    run_stage: Callable[[str], Any],
    capfd: pytest.CaptureFixture[str],
) -> None:
    import_images.main([str(pictures), "tones"])
    project.datasets |= yaml.safe_load(capfd.readouterr().out)
    project.params["dataset"] = "tones"
    project.save()
    assert run_stage("download").code == 0
    assert "train:      images (14, 28, 28)" in run_stage("normalize").out


def test_a_file_that_is_no_picture_is_named(pictures: Path) -> None:
    (pictures / "white/0.png").write_text("no picture")
    with pytest.raises(UserError, match=r"white/0\.png: not a picture"):
        import_images.main([str(pictures), "tones"])
    assert not Path("data").exists()


def test_a_folder_without_classes_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least two folders of pictures, found 0"):
        import_images.main([str(tmp_path), "tones"])
