from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.lib import split_file
from stages.lib.metrics import wilson_interval
from stages.lib.reporting import model_card
from tests.stages import plot_inputs


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("card")
    plot_inputs.made_page(folder)
    return Path(folder, "reports/model_card.md").read_text(encoding="utf-8")


def header(card: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return content


def rows(card: str, first: str) -> list[list[str]]:
    """The cells of the rows below the one that begins with ``first`` and its line."""
    lines = card[card.index(f"| {first} |") :].splitlines()
    table = lines[2 : next(at for at, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def test_the_header_is_what_hugging_face_reads(card: str) -> None:
    assert card.startswith("---\n")
    content = header(card)
    assert content["library_name"] == "keras"
    assert content["pipeline_tag"] == "image-classification"
    (entry,) = content["model-index"]
    assert entry["name"] == "made-mlp"
    (result,) = entry["results"]
    assert result["task"] == {"type": "image-classification"}
    assert result["dataset"] == {"name": "A <made> data set", "type": "made", "split": "test"}
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values == {"accuracy": 0.666667, "f1": 0.655556, "loss": 0.631046}


def test_it_states_data_counts_parameters_and_libraries(card: str) -> None:
    for words in (
        "Licence of the data: CC0 & none.",
        "https://example.org/a?b=1&c=2.",
        "8 training, 2 validation and 6 test images.",
        r"| train.optimizer | \<b\>adam\</b\> |",
        "| train.learning\\_rate | 0.001 |",
        "keras 3.15.1, tensorflow 2.21.0",
        "keras.ops.softmax(model.predict(images))",
        "float32, N x 4 x 4: raw values divided by 16,",
        "66.67",
        "30.00",
    ):
        assert words in card, words


def test_its_limits_name_classes_without_images_and_files_left_out(
    card: str, tmp_path: Path
) -> None:
    assert "left out" not in card
    plot_inputs.write(tmp_path)
    path = tmp_path / "reports/data/metrics.json"
    path.write_text(path.read_text().replace('"unreadable_files": 0', '"unreadable_files": 2'))
    assert plot_inputs.write_texts(tmp_path).returncode == 0
    found = Path(tmp_path, "reports/model_card.md").read_text(encoding="utf-8")
    limits = found.partition("## Limits")[2]
    assert "- 2 files could not be read as an image and were left out.\n" in limits


def test_it_tells_leaks_and_conflicts_as_the_page_does(card: str, tmp_path: Path) -> None:
    assert "equal in every pixel" not in card
    plot_inputs.write(tmp_path)
    path = tmp_path / "reports/data/metrics.json"
    path.write_text(path.read_text().replace('"conflicts": 0', '"conflicts": 1'))
    table = tmp_path / "reports/data/tables/duplicates.csv"
    columns = table.read_text(encoding="utf-8").splitlines()[0].split(",")
    row = {"group": "1", "split": "train", "labels_differ": "1", "across_splits": "0"}
    lines = (
        ",".join((row | {"index": str(at), "label": str(at)}).get(name, "") for name in columns)
        for at in (0, 1)
    )
    table.write_text("\n".join([",".join(columns), *lines, ""]), encoding="utf-8")
    assert plot_inputs.write_texts(tmp_path).returncode == 0
    found = Path(tmp_path, "reports/model_card.md").read_text(encoding="utf-8")
    data = found.partition("## Data")[2].partition("## Training")[0]
    assert "\n1 image occurs more than once with different labels.\n" in data


def test_it_claims_no_validation_images_where_none_were_held_out(card: str, tmp_path: Path) -> None:
    assert "The validation images were watched" in card
    plot_inputs.write(tmp_path)
    path = tmp_path / "reports/train/run.json"
    text = path.read_text(encoding="utf-8")
    assert '"validation": 2' in text
    path.write_text(text.replace('"validation": 2', '"validation": 0'), encoding="utf-8")
    done = plot_inputs.write_texts(tmp_path)
    assert done.returncode == 0, done.stderr
    found = " ".join(Path(tmp_path, "reports/model_card.md").read_text(encoding="utf-8").split())
    assert "No validation images were held out. All figures here are" in found
    assert "were watched" not in found


def test_it_says_how_images_were_brought_to_their_size(card: str, tmp_path: Path) -> None:
    assert "so from 0 to 1. The model does the rest itself." in card
    plot_inputs.write(tmp_path)
    path = tmp_path / "data/normalized/train.npz"
    split_file.write(path, replace(split_file.read(path), fitted=("crop", 1.0)))
    done = plot_inputs.write_texts(tmp_path)
    assert done.returncode == 0, done.stderr
    resized = Path(tmp_path, "reports/model_card.md").read_text(encoding="utf-8")
    said = "so from 0 to 1, brought to that size as `normalize.resize: crop` does. The model does"
    assert said in " ".join(resized.split())


def test_each_class_has_its_recall_with_an_interval(card: str) -> None:
    table = rows(card, "class")
    assert len(table) == 3
    name, images, precision, recall, interval, f1 = table[0]
    assert (name, images) == ("T-shirt/top", "2")
    assert (precision[:3], recall[:2], f1[:2]) == ("100", "50", "66")
    low, high = wilson_interval(1, 2)
    assert interval.startswith(f"{100 * low:.2f}")
    assert f"{100 * high:.2f}" in interval


def test_names_cannot_leave_their_cell_or_become_markup(card: str) -> None:
    names = [row[0] for row in rows(card, "class")]
    assert names[1] == r"\<script\>alert(1)\</script\>"
    assert names[2] == '"B" & a \\$x\\_ long name of two lines'
    assert "<script>" not in card


def test_it_says_what_is_confused_and_which_labels_are_doubtful(card: str) -> None:
    assert "T-shirt/top taken for \\<script\\>alert(1)\\</script\\> (1)" in card
    assert "test image 4, " in card
    assert "test image 1, " not in card  # the model agrees with its label


def test_calibration_is_told_in_words(card: str) -> None:
    assert "The mean confidence is 80.00" in card
    assert "it is too sure" in card


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("AT&T", "AT&T"), ("&lt;b", "\\&lt;b"), ("a|b\n# c", "a\\|b \\# c"), ("[x](y)", "\\[x\\](y)")],
)
def test_a_text_is_what_it_was_once_markdown_is_drawn(text: str, escaped: str) -> None:
    assert model_card._text(text) == escaped


def test_a_text_of_the_header_is_readable_and_on_one_line() -> None:
    assert model_card._quoted('手写 "数字"\n  集') == '"手写 \\"数字\\" 集"'
