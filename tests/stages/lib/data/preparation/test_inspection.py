import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from stages.lib.data import formats
from stages.lib.data.formats import Part, idx
from stages.lib.data.preparation import inspection, neighbours

NAMES = ["cat", "dog, or so", "猫头鹰"]


def noise(seed: int, count: int, shape: Sequence[int] = (12, 10)) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


@pytest.fixture(autouse=True)
def _few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_PIECE", 7)


def part(
    images: npt.NDArray[Any],
    labels: Sequence[int] | npt.NDArray[Any],
    names: list[str] | None = None,
    sizes: npt.NDArray[np.int64] | None = None,
) -> Part:
    """A split of images from 0 to 255."""

    def take(indices: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        scaled: npt.NDArray[np.float32] = np.divide(images[indices], 255, dtype=np.float32)
        return scaled

    if sizes is None:
        sizes = np.broadcast_to(np.array(images.shape[1:3]), (len(images), 2))
    return Part(images.shape[1:], np.array(labels, np.int64), names, take, sizes)


@pytest.mark.parametrize(
    ("shape", "count", "pieces"),
    [
        ((28, 28), 9000, [4096, 4096, 808]),
        ((1024, 1024, 3), 5, [2, 2, 1]),
        ((4096, 4096), 2, [1, 1]),
    ],
)
def test_no_more_images_are_float32_at_once_than_fit_in_memory(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], count: int, pieces: list[int]
) -> None:
    monkeypatch.undo()
    one = np.zeros(1, np.float32)
    take = lambda indices: np.broadcast_to(one, (len(indices), *shape))  # noqa: E731
    labels, sizes = np.zeros(count, np.int64), np.zeros((count, 2), np.int64)
    assert [len(piece) for piece in Part(shape, labels, None, take, sizes).pieces()] == pieces


def inspect(**splits: Part) -> tuple[dict[str, int], dict[str, inspection.Table]]:
    """The metrics and the tables of splits."""
    inspector = inspection.Inspector(splits, NAMES)
    for name, given in splits.items():
        written = [piece.copy() for piece in inspector.watched(name)]
        assert all(map(np.array_equal, written, given.pieces()))
    report = inspector.report()
    return report.metrics, report.tables


def rows(tables: dict[str, inspection.Table], name: str) -> list[dict[str, Any]]:
    table = tables[name]
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("shape", [(12, 10), (9, 9, 3), (1, 7)])
def test_all_that_is_planted_is_found_and_no_more(seed: int, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(seed)
    counts = {"train": 300, "validation": 60, "test": 100}
    images = {name: noise(seed * 10 + at, n, shape) for at, (name, n) in enumerate(counts.items())}
    labels = {name: random.integers(0, 3, n) for name, n in counts.items()}
    places = {name: iter(random.permutation(n).tolist()) for name, n in counts.items()}
    planted = random.integers(1, 9, 7).tolist()
    groups: dict[tuple[bool, bool], set[frozenset[tuple[str, int]]]] = {}

    def plant(times: int, source: str, target: str, differ: bool) -> None:
        """Makes images of ``target`` copies of images of ``source``, at places not used yet."""
        for _ in range(times):
            one, other = next(places[source]), next(places[target])
            images[target][other] = images[source][one]
            labels[target][other] = (labels[source][one] + differ) % 3
            group = frozenset({(source, one), (target, other)})
            groups.setdefault((differ, source != target), set()).add(group)

    within, leaks, late, held, conflicts, leaked_conflicts, among_held = planted
    plant(within, "train", "train", False)
    plant(leaks, "train", "test", False)
    plant(late, "validation", "test", False)
    plant(held, "train", "validation", False)
    plant(conflicts, "train", "train", True)
    plant(leaked_conflicts, "train", "test", True)
    plant(among_held, "test", "test", False)
    metrics, tables = inspect(**{name: part(images[name], labels[name]) for name in counts})
    assert metrics["duplicates"] == within + conflicts + among_held
    assert metrics["leaked_test"] == leaks + late + leaked_conflicts
    assert metrics["leaked_validation"] == held
    assert metrics["conflicts"] == conflicts + leaked_conflicts
    assert metrics["near_duplicates"] == 0 or shape == (1, 7)  # in seven pixels noise is alike
    told: dict[int, list[dict[str, Any]]] = {}
    for row in rows(tables, "duplicates"):
        told.setdefault(row["group"], []).append(row)
        assert row["label"] == labels[row["split"]][row["index"]]
        assert row["class"] == NAMES[row["label"]]
    seen: dict[tuple[bool, bool], set[frozenset[tuple[str, int]]]] = {}
    for members in told.values():
        key = bool(members[0]["labels_differ"]), bool(members[0]["across_splits"])
        group = frozenset((row["split"], row["index"]) for row in members)
        seen.setdefault(key, set()).add(group)
    assert seen == groups


def test_classes_without_training_or_test_images_are_counted() -> None:
    images, labels = noise(1, 20), np.arange(20) % 2
    metrics, tables = inspect(train=part(images, labels), test=part(noise(2, 5), np.full(5, 1)))
    found = [metrics[name] for name in ("classes", "untrained_classes", "untested_classes")]
    assert found == [3, 1, 2]
    assert rows(tables, "unreadable") == []


def test_more_than_two_copies_and_more_than_two_labels() -> None:
    images = noise(1, 20)
    images[[3, 5, 7]] = images[0]  # labels 0, 1, 2, 0
    labels = [0, 0, 0, 1, 0, 2, 0, 0] + [1] * 12
    test = images[[0, 0, 1]]
    metrics, tables = inspect(train=part(images, labels), test=part(test, [0, 0, 0]))
    assert metrics["duplicates"] == 3 + 1
    assert metrics["leaked_test"] == 3
    assert metrics["conflicts"] == 1
    first = [(row["split"], row["index"]) for row in rows(tables, "duplicates")][:6]
    assert first == [
        ("train", 0),
        ("train", 3),
        ("train", 5),
        ("train", 7),
        ("test", 0),
        ("test", 1),
    ]


def test_counts_by_class_and_split_and_tiny_classes() -> None:
    labels = [0] * 12 + [1] * 9
    metrics, tables = inspect(train=part(noise(1, 21), labels), test=part(noise(2, 3), [0, 2, 2]))
    assert tables["classes"].header == ("label", "class", "train", "test")
    assert tables["classes"].rows == [
        [0, "cat", 12, 1],
        [1, "dog, or so", 9, 0],
        [2, "猫头鹰", 0, 2],
    ]
    assert (metrics["classes"], metrics["tiny_classes"]) == (3, 2)
    assert (metrics["train_images"], metrics["test_images"]) == (21, 3)


def test_file_names_and_sizes_before_scaling_are_told() -> None:
    images = noise(3, 4)
    images[3] = images[1]
    metrics, tables = inspect(
        train=part(images[:2], [0, 1], ["a.png", "b.png"], np.array([[4, 5], [7, 5]])),
        test=part(images[2:], [0, 2], ["c.png", "图.png"], np.array([[4, 5], [9, 9]])),
    )
    assert metrics["conflicts"] == 1
    assert tables["duplicates"].rows == [
        [0, "train", 1, "b.png", 1, "dog, or so", 1, 1],
        [0, "test", 1, "图.png", 2, "猫头鹰", 1, 1],
    ]
    assert tables["sizes"].header == ("height", "width", "train", "test")
    assert tables["sizes"].rows == [[4, 5, 1, 1], [7, 5, 1, 0], [9, 9, 0, 1]]


def test_brightness_by_hand() -> None:
    # Means 0.5 and 0.5, deviations 0.5 and 0
    train = np.array([[[0, 255]], [[127.5, 127.5]]])
    test = np.array([[[0, 0]], [[255, 255]]])
    _, tables = inspect(train=part(train, [0, 1]), test=part(test, [0, 1]))
    assert rows(tables, "splits") == [
        {
            "split": "train", "images": 2, "brightness": "0.500000",
            "brightness_spread": "0.000000", "contrast": "0.250000",
            "blank": 1, "duplicates": 0, "leaked": 0,
        },
        {
            "split": "test", "images": 2, "brightness": "0.500000",
            "brightness_spread": "0.500000", "contrast": "0.000000",
            "blank": 2, "duplicates": 0, "leaked": 0,
        },
    ]  # fmt: skip


@pytest.mark.parametrize("value", [0, 33, 255, 0.1])
def test_a_blank_image_is_blank_and_near_to_none(value: float) -> None:
    train = noise(1, 30).astype(np.float64)
    train[7] = value
    test = np.full((2, 12, 10), 34)
    test[1, 0, 0] = 35
    metrics, tables = inspect(train=part(train, [0] * 30), test=part(test, [1, 1]))
    assert metrics["blank_images"] == 2
    blank = [row for row in rows(tables, "unusual") if row["why"] == "blank"]
    assert [(row["split"], row["index"]) for row in blank] == [("train", 7), ("test", 0)]
    assert {row["contrast"] for row in blank} == {"0.000000"}
    assert metrics["near_duplicates"] == 0


def test_what_is_far_out_is_unusual_and_says_why() -> None:
    train = noise(1, 200)
    train[11] = 255 - train[11] // 8  # bright, and so low in contrast that this comes second
    train[12] //= 9
    train[13] = 120 + train[13] // 40
    train[14] = np.where(train[14] > 127, 255, 0)
    _, tables = inspect(train=part(train, [0] * 200))
    assert {row["index"]: row["why"] for row in rows(tables, "unusual")} == {
        11: "bright", 12: "dark", 13: "low contrast", 14: "high contrast",
    }  # fmt: skip


def test_without_held_out_images() -> None:
    metrics, tables = inspect(train=part(noise(1, 5), [0] * 5), test=part(noise(1, 0), []))
    assert (metrics["test_images"], metrics["leaked_test"], metrics["near_duplicates"]) == (0, 0, 0)
    assert rows(tables, "splits")[1]["brightness"] == ""


def test_memory_does_not_grow_with_the_pixels() -> None:
    def peak(count: int) -> int:
        images = noise(1, count, (64, 64))
        splits = {"train": part(images, [0] * count), "test": part(images[:50] // 2, [0] * 50)}
        tracemalloc.start()
        inspector = inspection.Inspector(splits, NAMES)
        for name in splits:
            for _ in inspector.watched(name):
                pass
        assert inspector.report().metrics["near_duplicates"] == 50
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    few, many = peak(1000), peak(4000)  # 49 MB of float32 more
    assert many - few < 10_000_000
    assert few < 30_000_000


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_none_is_invented_on_real_data(
    name: str, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # as many at a time as the stage reads
    files = {
        "train_images": "train-images-idx3-ubyte.gz",
        "train_labels": "train-labels-idx1-ubyte.gz",
        "test_images": "t10k-images-idx3-ubyte.gz",
        "test_labels": "t10k-labels-idx1-ubyte.gz",
    }
    train, test = idx.read({role: mirror / name / file for role, file in files.items()})
    splits = {"train": part(*train), "test": part(*test)}
    inspector = inspection.Inspector(splits, [str(label) for label in range(10)])
    for split in splits:
        for _ in inspector.watched(split):
            pass
    metrics, tables = inspector.report().metrics, inspector.report().tables
    assert (metrics["duplicates"], metrics["leaked_test"], metrics["conflicts"]) == (0, 0, 0)
    assert metrics["blank_images"] == 0
    exact = {"mnist": 1, "fashion_mnist": 89}[name]  # by the correlations of all pairs
    assert metrics["near_duplicates"] == exact
    assert all(
        float(row["correlation"]) >= neighbours.LIMIT for row in rows(tables, "near_duplicates")
    )
