"""Damaged results: an error that names the file, or the figures of what evaluate measured."""

import itertools
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import plot
from stages.lib import split_file
from stages.lib.core.errors import UserError
from stages.lib.reporting import data_tables, report
from tests.stages import plot_inputs

TABLES = [plot.HISTORY, plot.METRICS_TABLE, plot.PREDICTIONS, plot.PER_CLASS, plot.CALIBRATION]
RECORDS = [plot.TRAINING, plot.RUN, plot.METRICS]
ARRAYS = [plot.TRAIN_IMAGES, plot.TEST_IMAGES]

COUNT = 50  # of damages of each file
# What no other file repeats, and can be checked for its type and range alone
UNREPEATED_METRICS = ("macro_f1", "top2_accuracy")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    plot_inputs.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def results() -> report.Results:
    return plot.read_results(plot.Params(8, 6, 6, "en"), split_file.read(plot.TEST_IMAGES))


def rendered(settings: plot.Settings, read: report.Results) -> str:
    """The page, in which one small image stands for each figure."""
    dataset = plot.read_dataset(settings, split_file.read_first(plot.TRAIN_IMAGES, 8))
    names = "raw_image samples curves confusion per_class calibration predictions mistakes"
    figures = dict.fromkeys([*names.split(), "second_looks"], plot_inputs.SMALL_PNG)
    return report.render(dataset, read, data(), figures)


def data() -> data_tables.Data:
    return plot.read_data(
        {
            "test": split_file.read(plot.TEST_IMAGES),
            "validation": split_file.read(plot.VALIDATION_IMAGES),
        }
    )


def refusal(read: Callable[[], object]) -> str:
    """The message of the error that reading ends with, empty where it is accepted."""
    try:
        read()
    except UserError as error:
        return str(error)
    return ""


def measured(read: report.Results) -> dict[str, Any]:
    """What follows from the predictions, or stands in two files."""
    bins, scores, predictions = read.bins, read.scores, read.predictions
    return {
        "actual": predictions.actual,
        "predicted": predictions.predicted,
        "probabilities": predictions.probabilities,
        "bins": [bins.edges, bins.images, bins.confidence, bins.accuracy],
        "scores": [scores.precision, scores.recall, scores.f1, scores.support],
        "epochs": read.history["epoch"],
        "last": [values[-1] for name, values in read.history.items() if name != "learning_rate"],
        **{k: m.value for k, m in read.metrics.items() if k not in UNREPEATED_METRICS},
    }


def damages(content: bytes, seed: int, count: int) -> Iterator[bytes]:
    """One byte changed, left out, put in or doubled; an end cut off; lines doubled or swapped."""
    chance = random.Random(seed)
    letters = b"0123456789.,-+eE\n\"'{}[]: nainfNI\x00\xff\xe8\r;_"
    lines = content.splitlines(keepends=True)
    for _ in range(count):
        at = chance.randrange(len(content))
        letter = bytes([chance.choice(letters)])
        line = chance.randrange(len(lines))
        other = chance.randrange(len(lines))
        swapped = [*lines]
        swapped[line], swapped[other] = lines[other], lines[line]
        yield chance.choice(
            [
                content[:at] + letter + content[at + 1 :],
                content[:at] + content[at + 1 :],
                content[:at] + letter + content[at:],
                content[:at] + content[at : at + 1] * 2 + content[at + 1 :],
                content[:at],
                b"".join([*lines[:line], lines[line], *lines[line:]]),
                b"".join(swapped),
            ]
        )


@pytest.mark.parametrize("path", TABLES + RECORDS, ids=lambda path: "-".join(path.parts[1:]))
def test_a_damaged_file_is_named_or_changes_nothing_that_was_measured(
    folder: Path, path: Path
) -> None:
    settings, expected, original = plot.read_settings(), measured(results()), path.read_bytes()
    accepted = refused = 0
    for content in damages(original, seed=len(original), count=COUNT):
        path.write_bytes(content)
        if message := refusal(results):
            assert path.as_posix() in message, content
            assert len(message.splitlines()) == 2
            assert len(message) < 1000
            refused += 1
            continue
        accepted += 1
        read = results()
        assert_close(measured(read), expected)
        if accepted <= 10:
            assert "nan" not in rendered(settings, read)
    assert refused > COUNT / 8


DATA = [
    plot.DATA / "metrics.json",
    *(
        plot.DATA / f"tables/{name}.csv"
        for name in ("classes", "duplicates", "near_duplicates", "sizes", "splits", "unusual")
    ),
    plot.SECOND_LOOKS,
]


@pytest.mark.parametrize("path", DATA, ids=lambda path: "-".join(path.parts[1:]))
def test_a_damaged_table_about_the_data_is_named_or_can_be_shown(folder: Path, path: Path) -> None:
    names = {"train": [f"{at}.png" for at in range(8)], "test": [f"{at}.jpeg" for at in range(6)]}
    train, test = split_file.read(plot.TRAIN_IMAGES), split_file.read(plot.TEST_IMAGES)
    train.images[:][[1, 2]] = train.images[0]
    test.images[:][0] = train.images[0]
    train.images[:][5] = 1
    split_file.write(plot.TRAIN_IMAGES, train)
    split_file.write(plot.TEST_IMAGES, test)
    plot_inputs.write_data(folder, names)
    settings, read, original = plot.read_settings(), results(), path.read_bytes()
    assert rendered(settings, read)
    refused = 0
    for at, content in enumerate(damages(original, seed=len(original), count=COUNT)):
        path.write_bytes(content)
        if message := refusal(data):
            assert path.as_posix() in message or path.name == "metrics.json", content
            assert len(message.splitlines()) == 2
            assert len(message) < 1000
            refused += 1
        elif at < 30:
            assert "nan" not in rendered(settings, read)
    assert refused > COUNT / 8


def assert_close(one: Any, other: Any) -> None:
    """Checks that nested values differ by no more than the digits that are printed."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = list(one.values()), [other[name] for name in one]
    if isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_close(*pair)
    else:
        np.testing.assert_allclose(one, other, rtol=0, atol=5e-6)


@pytest.mark.parametrize("path", ARRAYS, ids=lambda path: path.name)
def test_damaged_arrays_are_named(folder: Path, path: Path) -> None:
    settings, chance, original = plot.read_settings(), random.Random(1), path.read_bytes()
    accepted = refused = 0
    for _ in range(200):
        at = chance.randrange(len(original))
        flipped = bytes([original[at] ^ 1 << chance.randrange(8)])
        cut = chance.random() < 0.2
        path.write_bytes(original[:at] if cut else original[:at] + flipped + original[at + 1 :])
        message = refusal(results) or refusal(lambda: split_file.read_first(plot.TRAIN_IMAGES, 8))
        if message:
            assert path.as_posix() in message
            refused += 1
            continue
        accepted += 1
        if accepted <= 10:
            assert rendered(settings, results())
    assert refused > COUNT / 8


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


def without_last_line(text: str) -> str:
    return "".join(text.splitlines(keepends=True)[:-1])


def reversed_rows(text: str) -> str:
    head, *rows = text.splitlines(keepends=True)
    return "".join([head, *reversed(rows)])


def doubled_row(text: str) -> str:
    head, first, *rows = text.splitlines(keepends=True)
    return "".join([head, first, first, *rows])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("second_look.csv", replaced("test,4,,1,", "test,4,,0,")),
        ("second_look.csv", replaced("test,4,", "test,400,")),
        ("second_look.csv", replaced("1,S,2,B", "1,S,1,S")),
        ("second_look.csv", replaced("1,S,2,B", "1,S,3,B")),
        ("second_look.csv", replaced("-0.650000", "-0.550000")),
        ("second_look.csv", replaced("0.800000", "1.800000")),
        ("second_look.csv", replaced("test,4,", "train,4,")),
        ("second_look.csv", replaced("test,4,", "tset,4,")),
        ("second_look.csv", reversed_rows),
        ("tables/classes.csv", replaced("0,", "7,")),
        ("tables/classes.csv", without_last_line),
        ("tables/classes.csv", doubled_row),
        ("tables/splits.csv", replaced("train,8", "train,9")),
        ("tables/splits.csv", without_last_line),
        ("tables/sizes.csv", replaced("4,4,8", "4,4,-8")),
        ("tables/sizes.csv", doubled_row),
        ("tables/near_duplicates.csv", without_last_line),
        ("tables/near_duplicates.csv", replaced("1.0000", "nan")),
        ("metrics.json", replaced('"leaked_test": 0', '"leaked_test": 1')),
        ("metrics.json", replaced('"conflicts": 0', '"conflicts": 1.5')),
    ],
)
def test_tables_about_the_data_that_contradict_each_other(
    folder: Path, name: str, change: Callable[[str], str]
) -> None:
    path = plot.SECOND_LOOKS if name == "second_look.csv" else plot.DATA / name
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    message = refusal(data)
    assert path.as_posix() in message
    assert len(message.splitlines()) == 2


EACH_TABLE = itertools.product(TABLES, [without_last_line, reversed_rows, doubled_row])


@pytest.mark.parametrize(
    ("path", "change"),
    [
        *((p, c) for p, c in EACH_TABLE if (p, c) != (plot.METRICS_TABLE, reversed_rows)),
        (plot.HISTORY, replaced("0.900000", "7")),
        (plot.HISTORY, replaced("1.0000", "nan")),
        (plot.HISTORY, replaced("2,0.001", "2,-0.001")),
        (plot.HISTORY, replaced("0.9000", "")),
        (plot.HISTORY, replaced("val_loss", "loss")),
        (plot.HISTORY, replaced("2,0.001", "3,0.001")),
        (plot.TRAINING, replaced('"epochs": 2', '"epochs": 3')),
        (plot.TRAINING, replaced('"epochs": 2', '"epochs": 2.5')),
        (plot.TRAINING, replaced('"epochs": 2', '"epochs": true')),
        (plot.TRAINING, replaced("0.25", "NaN")),
        (plot.TRAINING, replaced("0.25", "0.26")),
        (plot.TRAINING, replaced("1.2345", "1" * 400)),
        (plot.TRAINING, replaced("1.2345", "1" * 5000)),
        (plot.TRAINING, replaced("1.2345", "1e999")),
        (plot.TRAINING, replaced("1.2345", "[" * 100_000)),
        (plot.TRAINING, replaced('"parameters": 51', '"parameters": null')),
        (plot.RUN, replaced('"parameters": 51', '"parameters": -51')),
        (plot.RUN, replaced('"train": 8', '"train": "8"')),
        (plot.RUN, replaced("0.001", "NaN")),
        (plot.RUN, replaced('"layers": [', '"layers": [3, ')),
        (
            plot.RUN,
            lambda _: '{"parameters": [], "versions": 1, "images": 1, "layers": 1, "penalties": 1}',
        ),
        (plot.METRICS, replaced("0.666667", "7")),
        (plot.METRICS, replaced("0.666667", "0.766667")),
        (plot.METRICS, replaced("0.299993", "0.399993")),
        (plot.METRICS, replaced("0.631046", "0.731046")),
        (plot.METRICS, replaced("0.631046", "NaN")),
        (plot.METRICS, replaced("0.133333", "0.143333")),
        (plot.METRICS, replaced("0.655556", "-0.5")),
        (plot.METRICS, replaced("0.655556", '"0.655556"')),
        (plot.METRICS, replaced("macro_f1", "micro_f1")),
        (plot.METRICS_TABLE, replaced("nats", "bits")),
        (plot.METRICS_TABLE, replaced("lower", "smaller")),
        (plot.METRICS_TABLE, replaced("loss,", "accuracy,")),
        (plot.PREDICTIONS, replaced("0.900000", "7.500000")),
        (plot.PREDICTIONS, replaced("0.900000", "nan")),
        (plot.PREDICTIONS, replaced("0.900000", "inf")),
        (plot.PREDICTIONS, replaced("0.900000", "0.800000")),
        (plot.PREDICTIONS, replaced("0.900000", "0." + "9" * 200_000)),
        (plot.PREDICTIONS, replaced("\n0,0,0,", "\n0,0,1,")),
        (plot.PREDICTIONS, replaced("\n0,0,0,", "\n0,0,0.5,")),
        (plot.PREDICTIONS, replaced("\n0,0,0,", "\n1e300,0,0,")),
        (plot.PER_CLASS, replaced(",2\n", ",-4\n")),
        (plot.PER_CLASS, replaced(",2\n", ",3\n")),
        (plot.PER_CLASS, replaced("0.666667", "0.766667")),
        (plot.PER_CLASS, replaced("1.000000", "nan")),
        (plot.PER_CLASS, replaced("0,T", "0," + "T" * 200_000)),
        (plot.PER_CLASS, replaced("precision,recall", "precision,precision")),
        (plot.CALIBRATION, replaced("0.800000", "0.700000")),
        (plot.CALIBRATION, replaced("0.666667", "1.666667")),
        (plot.CALIBRATION, replaced("0.500000", "0.600000")),
        (plot.CALIBRATION, replaced(",6,", ",5,")),
        (plot.CALIBRATION, replaced(",0,,", ",0,0.5,")),
    ],
)
def test_results_that_contradict_each_other(
    folder: Path, path: Path, change: Callable[[str], str]
) -> None:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(UserError) as error:
        results()
    assert path.as_posix() in str(error.value)
    assert len(str(error.value)) < 1000


def test_a_history_cut_short_is_named_though_all_its_rows_are_whole(folder: Path) -> None:
    plot.HISTORY.write_text("".join(plot_inputs.HISTORY.splitlines(keepends=True)[:2]))
    with pytest.raises(UserError, match=r"history\.csv: expected 2 epochs as in .*; found 1\."):
        results()


def test_probabilities_at_the_edge_of_a_bin_may_be_counted_on_either_side(folder: Path) -> None:
    # 0.599999996 is printed as 0.600000, and evaluate counts it below an edge of 0.6
    plot.CALIBRATION.write_text(
        "lower,upper,images,confidence,accuracy\n"
        "0.000000,0.600000,1,0.600000,0.000000\n0.600000,1.000000,5,0.840000,0.800000\n"
    )
    values = plot_inputs.TEST | {"expected_calibration_error": 0.133333}
    plot.METRICS.write_text(json.dumps(values))
    assert results().bins.images.tolist() == [1, 5]
    moved = plot.CALIBRATION.read_text().replace(",1,0.6", ",0,,").replace(",5,", ",6,")
    plot.CALIBRATION.write_text(moved.replace(",,00000,0.000000", ",,"))
    plot.METRICS.write_text(json.dumps(values | {"expected_calibration_error": 0.04}))
    assert results().bins.images.tolist() == [0, 6]
