import html
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.lib import split_file
from tests.stages import plot_inputs

FIGURES = [
    "calibration.png",
    "confusion.png",
    "curves.png",
    "mistakes.png",
    "per_class.png",
    "predictions.png",
    "raw_image.png",
    "samples.png",
    "second_looks.png",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    plot_inputs.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outputs(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in [
            folder / "reports/index.html",
            folder / "reports/model_card.md",
            *(folder / "reports/figures").iterdir(),
        ]
    }


def test_writes_every_figure_and_the_page(folder: Path, run_stage: Callable[[str], Any]) -> None:
    (folder / "reports/figures").mkdir()
    (folder / "reports/figures/old.png").write_bytes(b"of an earlier version")
    finished = run_stage("plot")
    assert finished.code == 0, finished.err
    assert "9 figures in reports/figures/, reports/index.html of" in finished.out
    assert sorted(path.name for path in (folder / "reports/figures").iterdir()) == FIGURES
    for name in FIGURES:
        with Image.open(folder / "reports/figures" / name) as image:
            image.load()
            assert min(image.size) > 100
            assert max(image.size) < 2400
    assert (folder / "reports/index.html").stat().st_size < 3_000_000
    assert not list(folder.rglob("*.tmp"))


def augment(folder: Path, names: list[str]) -> None:
    """Writes as many images of each of the first two training images as there are names."""
    train = split_file.read(folder / "data/normalized/train.npz")
    rows = np.repeat([0, 1], len(names))
    changed = replace(train, images=train.images[rows], labels=train.labels[rows], names=names * 2)
    split_file.write(folder / "reports/train/augmented.npz", changed)


def test_images_before_and_after_augmentation_are_shown(
    folder: Path, run_stage: Callable[[str], Any]
) -> None:
    augment(folder, ["original", "augmented", "augmented"])
    finished = run_stage("plot")
    assert finished.code == 0, finished.err
    with Image.open(folder / "reports/figures/augmented.png") as image:
        image.load()
        assert min(image.size) > 100
    first, second = plot_inputs.NAMES[:2]
    alt = (
        f"2 training images, one a row, each before 2 augmented variants of it: {first}, {second}."
    )
    assert f'alt="{html.escape(alt)}"' in page_of(folder)


@pytest.mark.parametrize("names", [["augmented", "original"], ["original"] * 3, ["x", "y"]])
def test_augmented_images_that_are_not_as_train_writes_them(
    names: list[str], folder: Path, run_stage: Callable[[str], Any]
) -> None:
    augment(folder, names)
    split = split_file.read(folder / "reports/train/augmented.npz")
    if names[0] == "original":
        split = replace(split, labels=split.labels + 1)
        split_file.write(folder / "reports/train/augmented.npz", split)
    finished = run_stage("plot")
    assert finished.code == 1
    assert finished.err.startswith(
        "ERROR: reports/train/augmented.npz: expected images of data/normalized/train.npz, each "
        "before its variants; found others.\n"
    )


def test_equal_inputs_give_equal_bytes(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, run_stage: Callable[[str], Any]
) -> None:
    assert run_stage("plot").code == 0
    other = tmp_path_factory.mktemp("elsewhere")
    plot_inputs.write(other)
    (other / "matplotlibrc").write_text("font.size: 30\naxes.facecolor: red\n", encoding="utf-8")
    odd = {"PYTHONHASHSEED": "7", "TZ": "Asia/Shanghai", "MPLBACKEND": "svg", "LC_ALL": "C"}
    done = plot_inputs.run_plot(other, **odd)
    assert done.returncode == 0, done.stderr
    assert outputs(other) == outputs(folder)


def test_imports_no_tensorflow(folder: Path) -> None:
    done = plot_inputs.run_plot(folder, "-X", "importtime")
    assert done.returncode == 0, done.stderr
    imported = re.findall(r"\|\s+([\w.]+)$", done.stderr, re.MULTILINE)
    assert "matplotlib.figure" in imported
    for module in ("tensorflow", "keras", "matplotlib.pyplot"):
        assert module not in imported


def page_of(folder: Path) -> str:
    return (folder / "reports/index.html").read_text(encoding="utf-8")


def test_the_page_shows_names_as_they_are_and_none_as_markup(
    folder: Path, run_stage: Callable[[str], Any]
) -> None:
    assert run_stage("plot").code == 0
    text = page_of(folder)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert text.count("<script>") == 1
    for markup in ("<made>", "<b>", "<i>", "<html>"):
        assert markup not in text
    assert "裤子" not in text


def test_chinese_class_names(folder: Path, run_stage: Callable[[str], Any]) -> None:
    assert run_stage("plot").code == 0
    english = outputs(folder)
    plot_inputs.write(folder, class_names="zh")
    assert run_stage("plot").code == 0
    chinese = outputs(folder)
    assert '<span lang="zh">裤子</span>' in page_of(folder)
    assert {name for name in english if english[name] != chinese[name]} == {"reports/index.html"}


def test_chinese_class_names_that_there_are_not(
    folder: Path, run_stage: Callable[[str], Any]
) -> None:
    plot_inputs.write(folder, names_zh=[], class_names="zh")
    message = run_stage("plot").message
    assert message.startswith("params.yaml: plot.class_names: expected en")
    assert "made has no Chinese class names" in message
    assert "Chinese class_names to made in datasets.yaml" in message


def test_more_images_asked_for_than_there_are(
    folder: Path, run_stage: Callable[[str], Any]
) -> None:
    plot_inputs.write(folder, samples=100, predictions=100, mistakes=100)
    assert run_stage("plot").code == 0
    text = page_of(folder)
    assert 'alt="8 training images, row by row:' in text
    assert 'alt="6 test images, 4 of them predicted correctly:' in text
    assert 'alt="2 test images, 0 of them predicted correctly:' in text


def test_one_image_of_each(folder: Path, run_stage: Callable[[str], Any]) -> None:
    plot_inputs.write(folder, samples=1, predictions=1, mistakes=1)
    assert run_stage("plot").code == 0
    assert "1 test image, 0 of them predicted correctly: &lt;script&gt;" in page_of(folder)


def test_none_misclassified_and_no_validation(
    folder: Path, run_stage: Callable[[str], Any]
) -> None:
    plot_inputs.write_perfect(folder)
    (folder / "reports/train/history.csv").write_text("epoch,loss,accuracy\n1,0.1,1.0\n")
    (folder / "reports/train/metrics.json").write_text(
        '{"train_loss": 0.1, "train_accuracy": 1.0, "epochs": 1, "parameters": 51, '
        '"untrained_loss": 1.1}'
    )
    finished = run_stage("plot")
    assert finished.code == 0, finished.err
    text = page_of(folder)
    assert text.count("None of the 6 test images is misclassified.") == 2
    assert "validation loss" not in text.lower()
    assert (folder / "reports/figures/mistakes.png").exists()


def test_images_in_colour(folder: Path, run_stage: Callable[[str], Any]) -> None:
    for name, count in (("train", 8), ("validation", 2), ("test", 6)):
        path = folder / f"data/normalized/{name}.npz"
        split = split_file.read(path)
        images = plot_inputs.gradient(count, (5, 4, 3))
        colour = replace(split, images=images, pixel_max=255.0)
        split_file.write(path, colour)
    assert run_stage("plot").code == 0
    assert "5 × 4 × 3" in page_of(folder)


def test_two_labels_may_be_doubted_alike(folder: Path, run_stage: Callable[[str], Any]) -> None:
    path = folder / "reports/evaluate/second_look.csv"
    last = "0.550000,0.450000,0.100000"
    assert last in plot_inputs.SECOND_LOOK
    text = plot_inputs.SECOND_LOOK.replace(last, "0.400000,0.600000,-0.200000")
    path.write_text(text, encoding="utf-8")
    finished = run_stage("plot")
    assert finished.code == 0, finished.err


def test_labels_are_looked_at_without_validation_images(
    folder: Path, run_stage: Callable[[str], Any]
) -> None:
    path = folder / "data/normalized/validation.npz"
    split = split_file.read(path)
    split_file.write(path, replace(split, images=split.images[:0], labels=split.labels[:0]))
    plot_inputs.write_data(folder)
    looks = folder / "reports/evaluate/second_look.csv"
    looks.write_text(plot_inputs.SECOND_LOOK.partition("validation")[0], encoding="utf-8")
    assert run_stage("plot").code == 0
    assert "6 images, most doubtful first: test image 4 labelled" in page_of(folder)


@pytest.mark.parametrize("key", ["samples", "predictions", "mistakes"])
@pytest.mark.parametrize("value", [0, 101, "5", 2.5])
def test_numbers_out_of_range(
    folder: Path, run_stage: Callable[[str], Any], key: str, value: Any
) -> None:
    plot_inputs.write(folder, **{key: value})
    message = run_stage("plot").message
    assert message.startswith(f"params.yaml: plot.{key}: expected an integer in [1, 100]")


def test_another_language(folder: Path, run_stage: Callable[[str], Any]) -> None:
    plot_inputs.write(folder, class_names="zhh")
    assert "Did you mean 'zh'?" in run_stage("plot").message


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("reports/evaluate/predictions.csv", "index,actual\n", "the columns index, actual"),
        ("reports/evaluate/metrics.json", '{"loss": 1}', "the metrics of"),
        ("reports/evaluate/metrics.csv", "metric,label\nloss,Loss\n", "a column unit"),
        ("reports/train/metrics.json", "{}", "the key train_loss"),
        (
            "reports/train/metrics.json",
            json.dumps({**plot_inputs.TRAINING, "best_epoch": 3}),
            "a best_epoch from 1 to 2",
        ),
        (
            "reports/train/metrics.json",
            json.dumps({**plot_inputs.TRAINING, "best_epoch": 1}),
            "train_loss 1 as in epoch 1",
        ),
        ("reports/train/run.json", "{}", "the key parameters"),
        ("reports/train/history.csv", "epoch\n1\n", "a column loss"),
        ("reports/evaluate/per_class.csv", "label\n1\n", "a column precision"),
        ("reports/evaluate/calibration.csv", "lower\n1\n", "a column upper"),
        ("reports/evaluate/second_look.csv", "split\ntest\n", "rows as an earlier stage writes"),
        ("reports/evaluate/second_look.csv", "", "at least one row"),
        ("reports/data/metrics.json", "{}", "the key train_images"),
        ("reports/data/tables/classes.csv", "label,class\n", "the labels 0 to 2"),
        (
            "reports/data/tables/splits.csv",
            "split,images\ntrain,8\n",
            "rows as an earlier stage writes",
        ),
        ("reports/data/tables/sizes.csv", "", "at least one row"),
        ("reports/data/tables/duplicates.csv", "group\n1,2\n", "1 cells in row 1"),
        (
            "reports/data/tables/near_duplicates.csv",
            "",
            "near_duplicates 8 as in reports/data/metrics",
        ),
        (
            "reports/data/tables/unusual.csv",
            "split,index\ntrain,0\n",
            "rows as an earlier stage writes",
        ),
    ],
)
def test_results_that_are_not_as_they_should_be(
    folder: Path, run_stage: Callable[[str], Any], path: str, content: str, said: str
) -> None:
    (folder / "reports/figures").mkdir()
    for old in ("index.html", "model_card.md", "figures/old.png"):
        (folder / "reports" / old).write_bytes(b"old")
    before = outputs(folder)
    (folder / path).write_text(content)
    message = run_stage("plot").message
    assert message.startswith(f"{path}: expected {said}")
    assert "dvc repro" in message
    assert outputs(folder) == before
    (folder / path).unlink()
    assert run_stage("plot").message.startswith(f"{path}: not found")


def test_metrics_of_another_number_of_images(folder: Path, run_stage: Callable[[str], Any]) -> None:
    path = folder / "reports/evaluate/metrics.json"
    path.write_text(path.read_text().replace('"images": 6', '"images": 7'))
    assert "expected images 6 as in data/normalized/test.npz; found 7" in run_stage("plot").message


@pytest.mark.parametrize("name", ["train", "test"])
def test_pixels_out_of_range_are_named(
    folder: Path, run_stage: Callable[[str], Any], name: str
) -> None:
    path = folder / f"data/normalized/{name}.npz"
    split = split_file.read(path)
    split.images[3][1, 1] = 255
    split_file.write(path, split)
    message = run_stage("plot").message
    assert message.startswith(f"data/normalized/{name}.npz: ")
    assert "pixels from 0 to 255, not from 0 to 1" in message
