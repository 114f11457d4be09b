"""Images that are read where they lie give the bytes of images in memory, in every stage."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.lib import split_file, stored_images
from stages.lib.training import loop
from tests.stages import plot_inputs

pytestmark = pytest.mark.usefixtures("tensorflow")

CNN = {"channels": [4, 8], "convolutions": [1, 1], "dropout": 0.2}
AUGMENTED = {"shift": 1, "flip": True, "mixup": 0.4}
KEYS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "one image a step": {"batch_size": 1, "epochs": 2},
    "standardized, the best epoch, at a temperature": {
        "standardize": True, "keep": "best", "temperature": "validation",
    },
    "augmented and mixed": {"augmentation": AUGMENTED, "class_weights": "balanced"},
}  # fmt: skip


def outputs() -> dict[str, bytes]:
    folders = [Path("models"), Path("reports/train"), Path("reports/evaluate")]
    paths = [path for folder in folders for path in sorted(folder.rglob("*"))]
    return {path.as_posix(): path.read_bytes() for path in paths if path.is_file()}


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """From this call on every image is stored, and few are read at once: their numbers."""

    def store() -> list[int]:
        reads: list[int] = []
        read = stored_images.StoredImages.read_into

        def counted(self: Any, images: Any, indices: Any) -> None:
            reads.append(len(indices))
            read(self, images, indices)

        monkeypatch.setattr(stored_images.StoredImages, "read_into", counted)
        monkeypatch.setattr(split_file, "IN_MEMORY", 0)
        monkeypatch.setattr(stored_images, "PIECE", 25 * 64)  # of 4 x 4 pixels in float32
        return reads

    return store


@pytest.mark.parametrize(
    ("network", "keys"),
    [
        ("mlp", "as it is"),
        pytest.param("mlp", "one image a step", marks=pytest.mark.slow),
        ("mlp", "standardized, the best epoch, at a temperature"),
        ("mlp", "augmented and mixed"),
        pytest.param("cnn", "augmented and mixed", marks=pytest.mark.slow),
    ],
)
def test_the_bytes_are_those_of_images_in_memory(
    network: str, keys: str, ready: Any, run_stage: Callable[[str], Any], stored: Any
) -> None:
    ready.params["model"] |= {"architecture": network, "cnn": CNN}
    ready.params["train"] |= KEYS[keys]
    ready.save()
    for stage in ("train", "evaluate"):
        assert run_stage(stage).code == 0
    expected = outputs()
    for path in expected:
        Path(path).unlink()
    reads = stored()
    for stage in ("train", "evaluate"):
        finished = run_stage(stage)
        assert finished.code == 0, finished.err
    assert outputs() == expected
    assert max(reads) <= 30  # of 90: evaluate and the validation take theirs at once
    assert not list(Path().rglob(".*.tmp"))
    assert not list(Path(".checkpoints").iterdir())


def test_an_interrupted_training_goes_on_in_either_way(
    ready: Any, run_stage: Callable[[str], Any], stored: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_stage("train").code == 0
    expected = outputs()
    epochs: Iterator[None] = iter([None, None])
    epoch = loop.Loop.epoch

    def interrupted(*given: Any, **named: Any) -> loop.Scores:
        if next(epochs, "over") == "over":
            raise SystemExit(3)
        return epoch(*given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(loop.Loop, "epoch", interrupted)
        assert run_stage("train").code == 3
    stored()
    finished = run_stage("train")
    assert "Epoch 2/4" not in finished.out
    assert "Epoch 3/4" in finished.out
    assert outputs() == expected


def test_the_figures_are_those_of_images_in_memory(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_stage: Callable[[str], Any],
    stored: Any,
) -> None:
    plot_inputs.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run_stage("plot").code == 0
    figures = sorted(Path("reports/figures").iterdir())
    expected = [path.read_bytes() for path in figures]
    reads = stored()
    assert run_stage("plot").code == 0
    assert [path.read_bytes() for path in figures] == expected
    assert reads


def test_a_disk_that_is_full_is_named(
    ready: Any, run_stage: Callable[[str], Any], stored: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Any, piece: bytes) -> None:
        raise OSError(28, "No space left on device")

    stored()
    monkeypatch.setattr(stored_images, "_write", full)
    finished = run_stage("train")
    assert finished.code == 1
    assert finished.err == (
        "ERROR: .checkpoints: No space left on device.\nFree some space and run again.\n"
    )


def test_pixels_out_of_range_are_refused_where_they_are_stored_too(
    ready: Any, run_stage: Callable[[str], Any], stored: Any
) -> None:
    path = Path("data/normalized/train.npz")
    split = split_file.read(path)
    split.images[:][70] = 2
    split_file.write(path, split)
    stored()
    finished = run_stage("train")
    assert finished.code == 1
    assert "not from 0 to 1" in finished.err
