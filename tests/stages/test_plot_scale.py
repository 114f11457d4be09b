"""Many classes and long names: bounded memory, bounded time, and figures that can be read."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stages import plot
from stages.lib import metrics, split_file
from stages.lib.reporting import drawing, figures, image_grids, stage_outputs
from stages.lib.reporting.confusion_matrix import shown_classes
from tests.stages import plot_inputs
from tests.stages.lib.reporting import drawn

MEMORY = 600 << 20  # bytes of address space beyond what the imports take


def write_results(folder: Path, num_classes: int, images: int) -> stage_outputs.Predictions:
    """Writes a test split of many classes and results about it; returns the predictions."""
    plot_inputs.write(folder)
    random = np.random.default_rng(0)
    names = [f"class number {label}" for label in range(num_classes)]
    labels = random.integers(0, num_classes, images)
    for name in ("train", "validation", "test"):
        pixels = plot_inputs.gradient(images, (2, 2))
        split = split_file.Split(pixels, labels, names, [], 255.0)
        split_file.write(folder / f"data/normalized/{name}.npz", split)
    confusable = np.where(random.random(images) < 0.3, labels // 2, labels)
    probabilities = np.full((images, num_classes), 0.2 / (num_classes - 1))
    probabilities[np.arange(images), confusable] = 0.8
    predictions = stage_outputs.Predictions(labels, confusable, probabilities)
    plot_inputs.write_data(folder)
    write_tables(folder / "reports/evaluate", predictions)
    return predictions


def write_tables(reports: Path, predictions: stage_outputs.Predictions) -> None:
    images, num_classes = predictions.probabilities.shape
    header = ["index", "actual", "predicted", *(f"probability_{k}" for k in range(num_classes))]
    columns = [np.arange(images), predictions.actual, predictions.predicted]
    table = np.column_stack([*columns, predictions.probabilities])
    form = ["%d"] * 3 + ["%.6f"] * num_classes
    np.savetxt(reports / "predictions.csv", table, form, ",", header=",".join(header), comments="")
    scores = stage_outputs.scores(predictions)
    rows = zip(scores.precision, scores.recall, scores.f1, scores.support, strict=True)
    (reports / "per_class.csv").write_text(
        "label,class,precision,recall,f1,support\n"
        + "".join(
            f"{k},c,{p:.6f},{r:.6f},{f:.6f},{s}\n" for k, (p, r, f, s) in enumerate(rows)
        ).replace("nan", "")
    )
    margins, others = metrics.margins(predictions.probabilities, predictions.actual)
    looks = np.argsort(margins, kind="stable")[:100].tolist()
    (reports / "second_look.csv").write_text(
        "split,index,name,label,class,other,other_class,probability,other_probability,margin\n"
        + "".join(
            f"test,{at},,{predictions.actual[at]},c,{others[at]},c,"
            f"{predictions.probabilities[at, predictions.actual[at]]:.6f},"
            f"{predictions.probabilities[at, others[at]]:.6f},{margins[at]:.6f}\n"
            for at in looks
        )
    )
    accuracy = float(predictions.correct.mean())
    (reports / "calibration.csv").write_text(
        "lower,upper,images,confidence,accuracy\n0.0,0.5,0,,\n"
        f"0.5,1.0,{images},0.800000,{accuracy:.6f}\n"
    )
    low, high = metrics.wilson_interval(int(predictions.correct.sum()), images)
    actual = predictions.probabilities[np.arange(images), predictions.actual]
    values = plot_inputs.TEST | {
        "loss": float(-np.log(actual.round(6)).mean()),
        "accuracy": accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "expected_calibration_error": abs(0.8 - accuracy),
        "images": images,
    }
    (reports / "metrics.json").write_text(json.dumps(values))


LIMITED = f"""
import re, resource, runpy, sys
import stages.plot, jinja2
with open("/proc/self/status") as status:
    used = int(re.search(r"VmSize:\\s+(\\d+)", status.read())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + {MEMORY}, -1))
del sys.modules["stages.plot"]
runpy.run_module("stages.plot", run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc and RLIMIT_AS are Linux's")
def test_a_thousand_classes_take_bounded_memory_and_a_few_seconds(tmp_path: Path) -> None:
    write_results(tmp_path, num_classes=1000, images=3000)
    started = time.monotonic()
    environment = {"PYTHONPATH": str(plot_inputs.ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 60  # about 5 s; a slow machine has to pass too
    page = (tmp_path / "reports/index.html").read_text(encoding="utf-8")
    assert len(page) < 4_000_000
    assert "Shown are the 50 of 1,000 classes" in " ".join(page.split())
    assert "class number 999" in page  # the table by class is whole
    for path in (tmp_path / "reports/figures").iterdir():
        assert max(drawn.pixels(path.read_bytes()).shape) < 200 * 16, path.name


@pytest.fixture
def subtitles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The subtitles of the figures that are drawn, as they are before they are wrapped."""
    said: list[str] = []
    heading = drawing.heading

    def spy(width: float, title: str, subtitle: str) -> tuple[list[str], list[str]]:
        said.append(subtitle)
        return heading(width, title, subtitle)

    monkeypatch.setattr(drawing, "heading", spy)
    return said


def confused(num_classes: int) -> stage_outputs.Predictions:
    """Predictions, class 7 taken for 3 five times, 900 for 901 twice, the rest correct."""
    actual = np.array([*range(num_classes), *[7] * 5, *[900] * 2])
    predicted = np.array([*range(num_classes), *[3] * 5, *[901] * 2])
    return stage_outputs.Predictions(actual, predicted, np.eye(num_classes)[predicted])


def test_of_many_classes_the_most_confused_are_shown(
    monkeypatch: pytest.MonkeyPatch, subtitles: list[str]
) -> None:
    assert shown_classes(confused(1000)).tolist() == [*range(48), 900, 901]
    with drawn.texts(monkeypatch) as texts:
        png = figures.confusion(confused(1000), [f"name {at}" for at in range(1000)])
    drawn.assert_legible(texts, png)
    assert "The 50 most confused of 1,000 classes." in subtitles[0]
    shown = {text.text for text in texts}
    assert {"name 7", "name 3", "name 900", "name 901"} <= shown
    assert "name 500" not in shown


def test_up_to_a_hundred_classes_all_are_shown() -> None:
    few = stage_outputs.Predictions(np.arange(2), np.arange(2), np.zeros((2, 100)))
    assert shown_classes(few).tolist() == list(range(100))


def test_of_many_classes_the_best_and_the_worst_are_shown(
    monkeypatch: pytest.MonkeyPatch, subtitles: list[str]
) -> None:
    f1 = np.linspace(0, 1, 1000)
    scores = metrics.PerClass(f1, f1, f1, np.full(1000, 9))
    with drawn.texts(monkeypatch) as texts:
        png = figures.per_class([f"name {at}" for at in range(1000)], scores)
    drawn.assert_legible(texts, png)
    shown = [text.text for text in texts if text.text.startswith("name")]
    assert sorted(shown) == sorted(f"name {at}" for at in [*range(25), *range(975, 1000)])
    assert "The 25 best and, below the line, the 25 worst of 1,000 classes." in subtitles[0]


def test_classes_without_test_images_are_left_out_and_counted(
    monkeypatch: pytest.MonkeyPatch, subtitles: list[str]
) -> None:
    nan = np.nan
    f1, recall = np.array([0.5, nan, 0.0, 0.9]), np.array([0.6, nan, nan, 0.9])
    scores = metrics.PerClass(f1, recall, f1, np.array([2, 0, 0, 2]))
    with drawn.texts(monkeypatch) as texts:
        png = figures.per_class(["dog", "cat", "owl", "yak"], scores)
    drawn.assert_legible(texts, png)
    found = {text.text for text in texts}
    assert {"dog", "owl", "yak"} <= found
    assert "cat" not in found
    assert subtitles[0].endswith("Left out, without test images and never predicted: 1 of 4")


def test_of_many_classes_the_most_probable_have_bars(
    monkeypatch: pytest.MonkeyPatch, subtitles: list[str]
) -> None:
    probabilities = np.zeros((1, 12_000))
    probabilities[0, [11_999, 4, 5000, 77, 600]] = [0.5, 0.2, 0.15, 0.1, 0.05]
    test = stage_outputs.Predictions(np.array([4]), np.array([11_999]), probabilities)
    with drawn.texts(monkeypatch) as texts:
        png = image_grids.predictions(
            "Title", plot_inputs.gradient(1, (4, 4)), [0], test, ["a"] * 12_000
        )
    drawn.assert_legible(texts, png)
    labels = [text.text for text in texts if text.text.isdigit()]
    assert labels == ["4", "77", "600", "5000", "11999"]
    assert "of the 5 most probable of 12,000 classes" in subtitles[0]


@pytest.mark.filterwarnings("ignore:Glyph")  # the font has no Chinese
@pytest.mark.parametrize("name", ["x" * 100_000, "W " * 50_000, "衬衫" * 50_000, "é" * 100_000])
def test_a_long_name_is_cut_at_once(name: str) -> None:
    started = time.monotonic()
    for _ in range(20):
        assert drawing.text_width(drawing.fit(name, 1.2, 8), 8) <= 1.2
    assert all(len(short) <= 400 for short in drawing.shortened([name]))
    (drawable,) = drawing.drawable([name])
    assert len(drawable) <= 400
    assert time.monotonic() - started < 5  # about 0.1 s


@pytest.mark.parametrize("text", ["Ankle boot", "a b c d e f g h i j k l m n o p q r s", "W" * 60])
@pytest.mark.parametrize("inches", [0.1, 0.5, 0.9])
def test_the_cut_is_as_late_as_possible(text: str, inches: float) -> None:
    shown = drawing.fit(text, inches, 8)
    if shown != text:
        longer = text[: len(shown.removesuffix("…")) + 2]
        assert drawing.text_width(f"{longer}…", 8) > inches


def test_a_page_of_long_names_stays_small(tmp_path: Path) -> None:
    names = ["x" * 100_000, "衬" * 100_000, "two"]
    plot_inputs.write(tmp_path)
    for name in ("train", "test"):
        path = tmp_path / f"data/normalized/{name}.npz"
        split = split_file.read(path)
        renamed = split_file.Split(split.images, split.labels, names, [], split.pixel_max)
        split_file.write(path, renamed)
    done = plot_inputs.run_plot(tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / plot.PAGE).stat().st_size < 1_000_000
