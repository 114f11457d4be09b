from collections.abc import Iterable
from pathlib import Path

import pytest

from stages.lib.core.errors import UserError
from stages.lib.data.preparation import layouts

ARCHIVE = Path("data/raw/leaves.zip")


def find(names: Iterable[str], table: str = "") -> layouts.Layout:
    return layouts.find(ARCHIVE, names, lambda _: table.encode())


def entries(layout: layouts.Layout) -> list[tuple[str, str, str]]:
    return [(entry.name, entry.label, entry.split) for entry in layout.entries]


def refusal(names: Iterable[str], table: str = "") -> str:
    with pytest.raises(UserError) as caught:
        find(names, table)
    message = str(caught.value)
    assert len(message.splitlines()) == 2
    return message


@pytest.mark.parametrize("top", ["", "leaves/", "a/b/"])
def test_class_folders(top: str) -> None:
    layout = find(f"{top}{name}" for name in ("oak/2.png", "beech/old/1.png", "oak/1.png"))
    assert layout.kind == "class folders"
    assert entries(layout) == [
        ("beech/old/1.png", "beech", ""),
        ("oak/1.png", "oak", ""),
        ("oak/2.png", "oak", ""),
    ]
    assert layout.entries[0].member == f"{top}beech/old/1.png"
    assert layout.class_names == ["beech", "oak"]


@pytest.mark.parametrize("word", ["val", "valid", "validation", "Validation"])
@pytest.mark.parametrize("top", ["", "leaves/"])
def test_a_folder_for_each_split(word: str, top: str) -> None:
    names = ["Train/oak/1.png", "Train/beech/1.png", f"{word}/oak/1.png", "TEST/beech/2.png"]
    layout = find(f"{top}{name}" for name in names)
    assert layout.kind == f"class folders in TEST, Train, {word}"
    assert sorted(entries(layout)) == [
        ("TEST/beech/2.png", "beech", "test"),
        ("Train/beech/1.png", "beech", "train"),
        ("Train/oak/1.png", "oak", "train"),
        (f"{word}/oak/1.png", "oak", "validation"),
    ]


def test_a_folder_train_alone_holds_the_class_folders() -> None:
    layout = find(["train/oak/1.png", "train/beech/1.png"])
    assert [entry.split for entry in layout.entries] == ["", ""]
    assert layout.class_names == ["beech", "oak"]


def test_a_class_may_be_called_train() -> None:
    assert find(["train/1.png", "car/1.png", "bus/1.png"]).class_names == ["bus", "car", "train"]


def test_other_files_are_not_used_and_litter_is_not_even_named() -> None:
    names = ["README.md", "leaves/oak/1.png", "leaves/beech/1.png", "leaves/about.txt"]
    litter = ["__MACOSX/leaves/oak/._1.png", "leaves/.DS_Store", "leaves/oak/Thumbs.db"]
    layout = find([*names, *litter])
    assert layout.class_names == ["beech", "oak"]
    assert layout.unused == ["README.md", "leaves/about.txt"]
    layout = find(["train/oak/1.png", "test/oak/2.png", "train/beech/3.png", "new/x/4.png"])
    assert layout.unused == ["new/x/4.png"]


@pytest.mark.parametrize(
    ("names", "expected", "found"),
    [
        ([], "class folders in it, or a labels.csv beside the images", "0 files in no class"),
        (["1.png", "2.png"], "class folders in it, or a labels.csv", "2 files in no class folder"),
        (
            ["train/1.png", "test/2.png"],
            "class folders in test/ and train/, or a labels.csv beside",
            "2 files in no class folder",
        ),
        (["test/oak/1.png", "val/oak/1.png"], "a folder train", "test, val"),
        (
            ["train/oak/1.png", "val/oak/1.png", "valid/oak/1.png"],
            "one folder of validation images",
            "train, val, valid",
        ),
    ],
)
def test_what_is_no_layout_is_named(names: list[str], expected: str, found: str) -> None:
    message = refusal(names)
    assert message.startswith(f"data/raw/leaves.zip: expected {expected}")
    assert f"found {found}" in message


FILES = ["labels.csv", "images/1.png", "images/2.png", "images/3.png", "about.txt"]


@pytest.mark.parametrize("top", ["", "leaves/"])
@pytest.mark.parametrize(
    "table",
    [
        "path,label\nimages/1.png,oak\nimages/2.png,beech\n",
        "\ufeffpath,label\r\nimages/1.png,oak\r\nimages/2.png,beech\r\n\r\n",
        "Label;File\noak;./images/1.png\nbeech;images\\2.png",
        'n\tclass\tfilename\n1\t oak \t"images/1.png"\n2\tbeech\timages/2.png\n',
    ],
)
def test_a_table_of_labels(table: str, top: str) -> None:
    layout = find([f"{top}{name}" for name in FILES], table)
    assert entries(layout) == [("images/1.png", "oak", ""), ("images/2.png", "beech", "")]
    assert layout.unused == [f"{top}about.txt", f"{top}images/3.png"]


def test_a_table_of_labels_and_splits() -> None:
    table = "path,label,split\nimages/1.png,oak,Train\nimages/2.png,oak,test\nimages/3.png,b,val\n"
    assert entries(find(FILES, table)) == [
        ("images/1.png", "oak", "train"),
        ("images/2.png", "oak", "test"),
        ("images/3.png", "b", "validation"),
    ]


def test_a_table_beside_its_images() -> None:
    table = "path,label\n1.png,叶子\n2.png,a b\n"
    layout = find(["all/labels.csv", "all/1.png", "all/2.png"], table)
    assert layout.class_names == ["a b", "叶子"]


@pytest.mark.parametrize(
    ("table", "expected", "found"),
    [
        ("", "the columns path, label and, if known, split", "none"),
        ("images/1.png,oak\n", "the columns path, label and, if known,", "images/1.png, oak"),
        ("path,label\n", "a row for each image", "none"),
        ("path,label,split\nimages/1.png,a,test\n", "rows of train images", "test alone"),
        ("path,label\nimages/9.png,oak\n", "line 2: the path of a file", "'images/9.png'"),
        ("path,label\n../1.png,oak\n", "line 2: the path of a file", "'../1.png'"),
        ("path,label\nimages/1.png,\n", "line 2: a label", "none"),
        ("path,label\nimages/1.png\n", "line 2: 2 columns", "1"),
        (
            "path,label\nimages/1.png,a\nimages/1.png,b\n",
            "line 3: each file once",
            "images/1.png again",
        ),
        (
            "path,label,split\nimages/1.png,a,later\n",
            "line 2: train, validation or test",
            "'later'",
        ),
        (
            'path,label\nimages/1.png,a\n"images/2.png,a\n',
            "line 3: a CSV table",
            "unexpected end of data",
        ),
        (
            'path,label\nimages/1.png,"5" nail\n',
            "line 2: a CSV table",
            "',' expected after '\"'",
        ),
    ],
)
def test_what_is_no_table_is_named(table: str, expected: str, found: str) -> None:
    message = refusal(FILES, table)
    assert message.startswith(f"data/raw/leaves.zip/labels.csv: expected {expected}")
    assert f"found {found}" in message


def test_classes_are_in_the_order_of_letters_or_of_numbers() -> None:
    assert find(f"{name}/1.png" for name in ("b", "C", "10", "a")).class_names == [
        "10",
        "C",
        "a",
        "b",
    ]
    assert find(f"{name}/1.png" for name in ("10", "9", "1")).class_names == ["1", "9", "10"]
