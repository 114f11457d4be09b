import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml

from stages import normalize
from stages.lib import split_file
from stages.lib.data.formats import idx
from tests.conftest import ROOT, Finished, Project, Repository, idx_bytes

Run = Callable[[str], Finished]


def split(project: Project, name: str) -> dict[str, npt.NDArray[Any]]:
    path = project.path / f"data/normalized/{name}.npz"
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def normalized(project: Project, run_stage: Run) -> dict[str, dict[str, npt.NDArray[Any]]]:
    project.save()
    project.put_raw()
    done = run_stage("normalize")
    assert (done.code, done.err) == (0, ""), done.err
    assert project.left_over() == []
    return {name: split(project, name) for name in ("train", "validation", "test")}


def refusal(project: Project, run_stage: Run) -> str:
    project.save()
    project.put_raw()
    message = run_stage("normalize").message
    assert not (project.path / "data/normalized").exists()
    assert project.left_over() == []
    return message


def use_npz(project: Project, **arrays: npt.NDArray[Any]) -> None:
    """Makes the data set an archive of its four arrays, with changes; None leaves one out."""
    usual = {
        "x_train": np.arange(120, dtype=np.uint8).reshape(20, 2, 3),
        "y_train": np.arange(20) % 2,
        "x_test": np.arange(30, dtype=np.uint8).reshape(5, 2, 3)[:, :, ::-1],
        "y_test": np.array([0, 1, 1, 0, 1]),
    }
    content = io.BytesIO()
    chosen: dict[str, Any] = {
        name: array for name, array in {**usual, **arrays}.items() if array is not None
    }
    np.savez_compressed(content, allow_pickle=True, **chosen)
    use_npz_bytes(project, content.getvalue())


def use_npz_bytes(project: Project, content: bytes) -> None:
    project.tiny.update(format="npz", files={})
    project.publish("arrays", content, "tiny.npz")


def test_pixels_are_divided_by_pixel_max(project: Project, run_stage: Run) -> None:
    project.params["normalize"] = {"validation_fraction": 0, "seed": 1}
    project.tiny["pixel_max"] = 125
    splits = normalized(project, run_stage)
    images = splits["train"]["images"]
    assert (images.dtype.name, images.shape) == ("float32", (20, 2, 3))
    # Training image n holds the pixels 6n to 6n + 5
    assert images[0].tolist() == [
        [0.0, np.float32(1 / 125), np.float32(2 / 125)],
        [np.float32(3 / 125), np.float32(4 / 125), np.float32(0.04)],
    ]
    assert images[19, 1, 2] == np.float32(119 / 125)
    assert splits["test"]["images"][4, 1].tolist() == [
        np.float32(29 / 125),
        np.float32(28 / 125),
        np.float32(27 / 125),
    ]


def test_the_largest_pixel_becomes_1_and_the_smallest_0(project: Project, run_stage: Run) -> None:
    extremes = np.full((5, 2, 3), 255)
    extremes[0] = 0
    project.publish("test_images", idx_bytes(extremes))
    project.publish("test_labels", idx_bytes(np.array([0, 1, 1, 1, 1])))
    images = normalized(project, run_stage)["test"]["images"]
    assert (images[0] == 0).all()
    assert (images[1:] == 1).all()


def test_an_archive_says_all_that_later_stages_need(project: Project, run_stage: Run) -> None:
    for arrays in normalized(project, run_stage).values():
        assert arrays["labels"].dtype == np.int64
        assert arrays["class_names"].tolist() == ["even", "odd"]
        assert arrays["class_names_zh"].tolist() == ["偶", "奇"]
        assert arrays["pixel_max"] == 255


def test_the_test_split_keeps_its_order(project: Project, run_stage: Run) -> None:
    assert normalized(project, run_stage)["test"]["labels"].tolist() == [0, 1, 1, 0, 1]


def test_the_share_held_out_is_that_of_every_class(project: Project, run_stage: Run) -> None:
    project.params["normalize"]["validation_fraction"] = 0.3
    splits = normalized(project, run_stage)
    # 10 images of each class, of which 3 are held out; image n begins with the pixel 6n
    held_out = (splits["validation"]["images"][:, 0, 0] * 255 / 6).round().astype(int).tolist()
    kept = (splits["train"]["images"][:, 0, 0] * 255 / 6).round().astype(int).tolist()
    assert np.bincount(splits["validation"]["labels"]).tolist() == [3, 3]
    assert np.bincount(splits["train"]["labels"]).tolist() == [7, 7]
    assert sorted(kept + held_out) == list(range(20))
    assert (kept, held_out) == (sorted(kept), sorted(held_out))
    for name, numbers in (("train", kept), ("validation", held_out)):
        assert splits[name]["labels"].tolist() == [number % 2 for number in numbers]


def test_fraction_0_holds_out_none(project: Project, run_stage: Run) -> None:
    project.params["normalize"]["validation_fraction"] = 0
    splits = normalized(project, run_stage)
    assert splits["train"]["labels"].tolist() == [0, 1] * 10
    assert splits["validation"]["images"].shape == (0, 2, 3)
    assert splits["validation"]["images"].dtype == np.float32
    assert splits["validation"]["labels"].shape == (0,)
    assert splits["validation"]["class_names"].tolist() == ["even", "odd"]


def test_shapes_and_sizes_are_printed(project: Project, run_stage: Run) -> None:
    project.params["normalize"]["validation_fraction"] = 0.1
    project.save()
    project.put_raw()
    assert run_stage("normalize").out == (
        "tiny, pixels 0 to 255 to float32 0 to 1:\n"
        "  train:      images (18, 2, 3), labels (18,), 0.0 MB in data/normalized/train.npz\n"
        "  validation: images (2, 2, 3), labels (2,), 0.0 MB in data/normalized/validation.npz\n"
        "  test:       images (5, 2, 3), labels (5,), 0.0 MB in data/normalized/test.npz\n"
        "  duplicates within a split: 0; held-out images much like a training image: 2; unusual "
        "images: 0; classes of fewer than 10 training images: 2; tables in reports/data/tables/\n"
    )


def test_images_in_colour_keep_their_channels(project: Project, run_stage: Run) -> None:
    colours = np.arange(20 * 2 * 3 * 3).reshape(20, 2, 3, 3) % 256
    project.publish("train_images", idx_bytes(colours))
    project.publish("test_images", idx_bytes(colours[:5, :, ::-1]))
    project.params["normalize"]["validation_fraction"] = 0
    splits = normalized(project, run_stage)
    assert np.allclose(splits["train"]["images"], colours / 255, rtol=1e-6, atol=0)
    assert splits["test"]["images"].shape == (5, 2, 3, 3)


def test_two_runs_and_two_processes_give_the_same_bytes(repository: Repository) -> None:
    assert repository.run("python", "-m", "stages.download").code == 0
    digests = set()
    for _ in range(2):
        done = repository.run("python", "-m", "stages.normalize")
        assert (done.code, done.err) == (0, "")
        paths = sorted((repository.path / "data/normalized").iterdir())
        assert [path.name for path in paths] == ["test.npz", "train.npz", "validation.npz"]
        tables = sorted((repository.path / "reports/data/tables").iterdir())
        assert len(tables) == 7
        paths += [*tables, repository.path / "reports/data/metrics.json"]
        digests.add("".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths))
    assert len(digests) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.float16, np.float64])
def test_an_npz_archive_gives_what_idx_files_give(
    project: Project, run_stage: Run, dtype: npt.DTypeLike
) -> None:
    expected = normalized(project, run_stage)
    use_npz(project, x_train=np.arange(120, dtype=dtype).reshape(20, 2, 3))
    found = normalized(project, run_stage)
    for name, arrays in expected.items():
        for key, array in arrays.items():
            assert found[name][key].dtype == array.dtype
            assert np.array_equal(found[name][key], array)


IMAGES = np.zeros((20, 2, 3), np.uint8)
NAN = np.where(np.arange(120).reshape(20, 2, 3) == 7, np.nan, 1.0)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_test": None}, "data/raw/tiny.npz: expected an .npz archive of x_train, y_train, "),
        ({"y_train": None}, "data/raw/tiny.npz: expected an .npz archive of x_train, y_train, "),
        ({"y_test": np.array([0, "a", None, 1, 1])}, "found: y_test of Python objects"),
        ({"x_train": IMAGES[:, :, 0]}, "training set: expected images of N x H x W or N x "),
        ({"x_train": IMAGES[0, 0, 0]}, "x C, found shape ()."),
        ({"x_train": IMAGES[..., None, None]}, "x C, found shape (20, 2, 3, 1, 1)."),
        ({"x_train": IMAGES[:0]}, "training set: expected images of N x H x W or N x H x W x C, "),
        ({"x_test": IMAGES[:, :, :0]}, "test set: expected images of N x H x W or N x H x W x C, "),
        ({"y_train": np.zeros(19, int)}, "expected labels of shape (20,), found shape (19,)."),
        ({"y_train": np.zeros((20, 2), int)}, "labels of shape (20,), found shape (20, 2)."),
        (
            {"x_train": np.zeros((20, 3, 6, 5), np.uint8)},
            "last, found shape (20, 3, 6, 5), which numpy.moveaxis(images, 1, -1) turns.",
        ),
        (
            {"y_test": np.zeros(5)},
            "test set: expected labels that are integers, found type float64.",
        ),
        ({"y_test": np.zeros(5, bool)}, "labels that are integers, found type bool."),
        ({"y_test": np.array(list("abcde"))}, "labels that are integers, found type <U1."),
        ({"y_train": np.full(20, 2)}, "labels from 0 to 1 as class_names, found 2 to 2."),
        ({"y_test": np.array([0, -1, 1, 1, 1])}, "from 0 to 1 as class_names, found -1 to 1."),
        ({"x_train": IMAGES.astype(bool)}, "training set: expected pixels that are numbers, found"),
        ({"x_train": IMAGES.astype(complex)}, "that are numbers, found type complex128."),
        ({"x_train": IMAGES - 1.0}, "pixels from 0 to pixel_max 255, found -1 to -1."),
        ({"x_train": IMAGES + 255.5}, "pixels from 0 to pixel_max 255, found 255.5 to 255.5."),
        ({"x_train": NAN}, "pixels from 0 to pixel_max 255, found nan to nan."),
        ({"x_train": IMAGES + np.inf}, "pixels from 0 to pixel_max 255, found inf to inf."),
        (
            {"x_test": np.zeros((5, 3, 2), np.uint8)},
            "data/raw: test set: expected images of shape (2, 3) as for training, found (3, 2).",
        ),
        ({"x_test": np.zeros((5, 2, 3, 1), np.uint8)}, "as for training, found (2, 3, 1)."),
    ],
)
def test_an_npz_archive_of_other_arrays_is_refused(
    project: Project, run_stage: Run, arrays: dict[str, npt.NDArray[Any]], message: str
) -> None:
    use_npz(project, **arrays)
    assert message in refusal(project, run_stage)


def test_a_file_that_is_no_npz_archive_is_refused(project: Project, run_stage: Run) -> None:
    use_npz(project)
    archive = (project.mirror / "tiny/tiny.npz").read_bytes()
    single = io.BytesIO()
    np.save(single, np.zeros(3))
    damaged = bytearray(archive)
    damaged[60:90] = b"\xff" * 30
    endless = io.BytesIO()
    with zipfile.ZipFile(endless, "w") as opened:
        opened.writestr("x_train.npy", b"\x93NUMPY\1\0\xb9\x0b" + b"(" * 3000 + b"\n")
    broken = [single.getvalue(), archive[:-30], bytes(damaged), endless.getvalue()]
    for content in (b"", b"text", b"\x80\4K\1.", *broken):
        use_npz_bytes(project, content)
        message = refusal(project, run_stage)
        assert message.startswith(
            "data/raw/tiny.npz: expected an .npz archive of x_train, y_train,"
        )
        assert message.endswith("\nSave one with numpy.savez_compressed.")


@pytest.mark.parametrize(
    ("role", "array", "message"),
    [
        ("train_labels", np.zeros(19), "training set: expected labels of shape (20,), found shape"),
        ("test_labels", np.zeros(6), "test set: expected labels of shape (5,), found shape (6,)."),
        ("train_labels", np.full(20, 2), "labels from 0 to 1 as class_names, found 2 to 2."),
        (
            "test_images",
            np.zeros((5, 3, 2)),
            "images of shape (2, 3) as for training, found (3, 2)",
        ),
        ("train_images", np.zeros(20), "data/raw/train_images.gz: not an IDX file of images or "),
        ("train_images", np.zeros((0, 2, 3)), "expected sizes of 1 or more, found shape (0, 2, 3)"),
    ],
)
def test_idx_files_that_do_not_fit_each_other_are_refused(
    project: Project, run_stage: Run, role: str, array: npt.NDArray[Any], message: str
) -> None:
    project.publish(role, idx_bytes(array))
    assert message in refusal(project, run_stage)


def test_pixels_above_pixel_max_are_refused(project: Project, run_stage: Run) -> None:
    project.tiny["pixel_max"] = 16
    assert refusal(project, run_stage) == (
        "data/raw: training set: expected pixels from 0 to pixel_max 16, found 0 to 119.\n"
        "Correct the files or their entry in datasets.yaml."
    )


def test_a_missing_raw_file_names_the_command_that_makes_it(
    project: Project, run_stage: Run
) -> None:
    project.put_raw()
    (project.path / "data/raw/test_labels.gz").unlink()
    assert run_stage("normalize").message == (
        "data/raw/test_labels.gz: not found, though datasets.yaml names it.\n"
        "Run `dvc repro`, which runs download first, or correct the name in datasets.yaml."
    )


def test_the_files_of_another_data_set_are_refused(project: Project, run_stage: Run) -> None:
    # MNIST and Fashion-MNIST give their files the same names
    project.put_raw()
    expected = project.tiny["files"]["test_labels"]["sha256"]
    project.publish("test_labels", idx_bytes(np.zeros(5)))
    project.save()
    message = run_stage("normalize").message
    assert message == (
        "data/raw/test_labels.gz: expected the configured data set's, "
        f"SHA-256 {project.tiny['files']['test_labels']['sha256']}, found {expected}.\n"
        "Run `dvc repro`, which runs download first."
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation_fraction": 1}, "validation_fraction: expected a number in [0, 1), found 1."),
        ({"validation_fraction": -0.1}, "a number in [0, 1), found -0.1."),
        ({"validation_fraction": "0.1"}, "found the text '0.1'.\nWrite the number without quotes"),
        ({"seed": -1}, "normalize.seed: expected an integer in [0, 4294967295], found -1."),
        ({"seed": 0.5}, "normalize.seed: expected an integer in [0, 4294967295], found 0.5."),
        (
            {"sede": 1},
            "normalize.sede: unknown key; allowed are validation_fraction, seed, ",
        ),
    ],
)
def test_a_wrong_parameter_is_named(
    project: Project, run_stage: Run, changes: dict[str, object], message: str
) -> None:
    project.params["normalize"].update(changes)
    assert message in refusal(project, run_stage)


def test_every_class_keeps_an_image_to_train_on(project: Project, run_stage: Run) -> None:
    project.params["normalize"]["validation_fraction"] = 0.99
    arrays = normalized(project, run_stage)
    assert sorted(arrays["train"]["labels"].tolist()) == [0, 1]
    assert len(arrays["validation"]["labels"]) == 18


def test_a_class_without_images_is_a_warning_and_a_count(project: Project, run_stage: Run) -> None:
    project.tiny["class_names"] = ["even", "odd", "neither"]
    project.put_raw()
    project.save()
    done = run_stage("normalize")
    assert (done.code, done.err) == (
        0,
        (
            "WARNING: 1 of 3 classes has no training image: no model can learn what is not shown "
            "to it. See reports/data/tables/classes.csv.\n"
            "WARNING: 1 of 3 classes has no test image: nothing is known of how well a model does "
            "there. See reports/data/tables/classes.csv.\n"
        ),
    )
    metrics = json.loads((project.path / "reports/data/metrics.json").read_text(encoding="utf-8"))
    assert (metrics["untrained_classes"], metrics["untested_classes"]) == (1, 1)


def test_many_channels_are_taken_where_they_are_last() -> None:
    entry = normalize.Entry("npz", {}, 255, ["a", "b"])
    normalize.check((np.zeros((2, 8, 9, 7), np.uint8), np.array([0, 1])), "test", entry)
    normalize.check((np.zeros((2, 3, 9, 4), np.uint8), np.array([0, 1])), "test", entry)


def test_leaks_and_conflicts_are_warnings_with_their_number(
    project: Project, run_stage: Run
) -> None:
    # Training image n begins with the pixel 6n and has the label n % 2: of the test images, one is
    # training image 0, one training image 4 with another label, two are equal
    images = np.arange(120).reshape(20, 2, 3)
    chosen = np.stack([images[0], images[4], images[0] + 200, images[1] + 201, images[1] + 201])
    project.publish("test_images", idx_bytes(chosen))
    project.publish("test_labels", idx_bytes(np.array([0, 1, 1, 0, 0])))
    project.params["normalize"]["validation_fraction"] = 0
    project.save()
    project.put_raw()
    done = run_stage("normalize")
    assert done.code == 0
    assert done.err == (
        "WARNING: 2 of 5 test images are in the training or validation split too, equal in every "
        "pixel. See reports/data/tables/duplicates.csv.\n"
        "WARNING: 1 image occurs more than once with different labels. "
        "See reports/data/tables/duplicates.csv.\n"
    )
    assert "  duplicates within a split: 1; " in done.out
    metrics = json.loads((project.path / "reports/data/metrics.json").read_text(encoding="utf-8"))
    assert metrics == {
        "train_images": 20,
        "validation_images": 0,
        "test_images": 5,
        "classes": 2,
        "tiny_classes": 0,
        "untrained_classes": 0,
        "untested_classes": 0,
        "unreadable_files": 0,
        "blank_images": 0,
        "unusual_images": 0,
        "duplicates": 1,
        "leaked_validation": 0,
        "leaked_test": 2,
        "conflicts": 1,
        "near_duplicates": 3,
    }
    table = (project.path / "reports/data/tables/duplicates.csv").read_text(encoding="utf-8")
    assert table == (
        "group,split,index,name,label,class,labels_differ,across_splits\n"
        "0,train,4,,0,even,1,1\n"
        "0,test,1,,1,odd,1,1\n"
        "1,train,0,,0,even,0,1\n"
        "1,test,0,,0,even,0,1\n"
        "2,test,3,,0,even,0,0\n"
        "2,test,4,,0,even,0,0\n"
    )


def test_a_failure_leaves_the_old_archives(project: Project, run_stage: Run) -> None:
    before = normalized(project, run_stage)
    project.tiny["pixel_max"] = 16
    project.save()
    assert run_stage("normalize").code == 1
    assert project.left_over() == []
    for name, arrays in before.items():
        assert np.array_equal(split(project, name)["images"], arrays["images"])


def test_a_file_edited_while_it_is_read_fails_the_stage(
    project: Project, run_stage: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.put_raw()
    path = project.path / "data/raw/test_labels.gz"
    read = idx.read_array

    def edit_and_read(*arguments: Any) -> Any:
        array = read(*arguments)
        path.write_bytes(path.read_bytes() + b"\0")
        return array

    monkeypatch.setattr("stages.lib.data.formats.idx.read_array", edit_and_read)
    assert run_stage("normalize").message.startswith("An input file of this stage was changed")


@pytest.mark.real_data
def test_real_data_are_split_by_class(
    project: Project, run_stage: Run, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASET_MIRROR", str(mirror))
    project.datasets = yaml.safe_load((ROOT / "datasets.yaml").read_text(encoding="utf-8"))
    project.params.update(
        dataset="fashion_mnist", normalize={"validation_fraction": 0.1, "seed": 1}
    )
    project.save()
    assert run_stage("download").code == 0
    done = run_stage("normalize")
    assert (done.code, done.err) == (0, "")
    for name, count in (("train", 5400), ("validation", 600), ("test", 1000)):
        arrays = split(project, name)
        assert arrays["images"].shape == (10 * count, 28, 28)
        assert (arrays["images"].min(), arrays["images"].max()) == (0, 1)
        assert np.bincount(arrays["labels"]).tolist() == [count] * 10
    assert arrays["class_names"][0] == "T-shirt/top"
    assert arrays["class_names_zh"][9] == "短靴"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("files", {}, "expected train_images, .*, found no train_images and no "),
        ("test_labels", None, "format idx: expected .*test_labels, found no test_labels"),
        (
            "test_label",
            {"name": "a", "sha256": "0" * 64},
            "format idx: expected one of .*; found 'test_label'.\nDid you mean 'test_labels'",
        ),
        ("format", "npz", "files: format npz: expected one of arrays; found 'test_images'"),
        (
            "format",
            "IDX",
            "format: expected one of idx, images, npz; found 'IDX'.\nDid you mean 'idx'",
        ),
    ],
)
def test_files_that_do_not_make_up_the_format_are_named(
    project: Project, run_stage: Run, key: str, value: Any, expected: str
) -> None:
    project.put_raw()
    entry = project.tiny if key in project.tiny else project.tiny["files"]
    if value is None:
        del entry[key]
    else:
        entry[key] = value
    project.save()
    message = run_stage("normalize").message
    assert re.match(f"datasets.yaml: tiny.*{expected}", message), message


MADE = '''"""One text file a part: numbers from 0 to 9, one image of 2 x 2 and its label a line."""

import numpy as np

FILES = ("train", "test")


def read(paths):
    rows = {part: np.loadtxt(path, dtype=np.uint8, ndmin=2) for part, path in paths.items()}
    train, test = ((r[:, 1:].reshape(-1, 2, 2), r[:, 0]) for r in (rows["train"], rows["test"]))
    return train, test
'''


def test_a_format_is_one_file(repository: Repository) -> None:
    (repository.path / "stages/lib/data/formats/digits_text.py").write_text(MADE, encoding="utf-8")
    files = {}
    for part, text in (("train", "0 1 2 3 4\n1 9 8 7 6\n" * 4), ("test", "1 9 9 9 0\n")):
        path = repository.path / "data/raw" / f"{part}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        files[part] = {"name": path.name, "sha256": digest}
    entry = {"title": "Made", "licence": "CC0", "citation": "None.", "format": "digits_text"}
    entry |= {"urls": [], "files": files, "pixel_max": 9, "class_names": ["low", "high"]}  # type: ignore[dict-item]
    text = yaml.safe_dump({"made": entry}, sort_keys=False)
    with (repository.path / "datasets.yaml").open("a", encoding="utf-8") as stream:
        stream.write(f"\n{text}")
    repository.edit("params.yaml", "dataset: digits", "dataset: made")
    done = repository.run("python", "-m", "stages.normalize")
    assert done.code == 0, done.err
    with np.load(repository.path / "data/normalized/test.npz") as arrays:
        assert arrays["labels"].tolist() == [1]
        assert arrays["images"].tolist() == [[[1, 1], [1, 0]]]


@pytest.mark.parametrize(
    ("changes", "fitted"),
    [
        ({}, None),
        ({"resize": "crop"}, None),
        ({"size": 4, "background": "black"}, ("pad", 0.0)),
        ({"size": [4, 5], "resize": "stretch"}, ("stretch", 1.0)),
    ],
)
def test_the_splits_say_how_their_images_were_fitted(
    changes: dict[str, Any], fitted: object, project: Project, run_stage: Run
) -> None:
    project.params["normalize"] |= changes
    normalized(project, run_stage)
    for name in ("train", "validation", "test"):
        assert split_file.read(Path(f"data/normalized/{name}.npz")).fitted == fitted
