import json
import re
from pathlib import Path

import pytest
import yaml

from tests.stages import plot_inputs
from tests.stages.lib.reporting.test_page import Outline

SECTIONS = [
    "Results",
    "What was run",
    "Training",
    "Confusion matrix",
    "By class",
    "Calibration",
    "Predictions",
    "Misclassified images",
    "Labels worth a second look",
    "The data",
]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    return plot_inputs.made_page(folder).read_text(encoding="utf-8")


def words(text: str) -> str:
    """What a reader sees, on one line."""
    return re.sub(r"\s+", " ", "".join(Outline(text).texts))


def table(text: str, caption: str) -> list[list[str]]:
    """The rows of a table, its header first."""
    (content,) = re.findall(rf"<caption>{caption}</caption>(.*?)</table>", text, re.DOTALL)
    rows = re.findall("<tr>(.*?)</tr>", content, re.DOTALL)
    cells = [re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    return [[words(cell) for cell in row] for row in cells]


def test_sections_in_order(text: str) -> None:
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", text) == SECTIONS


def test_the_summary_says_it_all_in_a_sentence_or_two(text: str) -> None:
    assert (
        "The model (mlp, 51 parameters) was trained for 2 epochs on 8 images. It predicts 66.67 % "
        "of 6 test images correctly; the 95 % interval is 30.00 to 90.32 %."
    ) in words(text)


def test_headline_metrics_with_the_interval(text: str) -> None:
    said = words(text)
    for part in (
        "Test accuracy 66.67 % 95 % interval 30.00 to 90.32 %",
        "Test loss 0.6310 nats; lower is better",
        "Macro F1 65.56 %",
        "Top-2 accuracy 100.00 %",
        "Expected calibration error 13.33 %",
        "Before the training the loss was 1.2345; guessing one of 3 classes gives ln 3 = 1.0986.",
    ):
        assert part in said
    assert table(text, "Loss and accuracy by split")[1:] == [
        ["training", "8", "0.2500", "90.00 %"],
        ["validation", "2", "0.5000", "85.00 %"],
        ["test", "6", "0.6310", "66.67 %"],
    ]


def test_what_was_run(text: str) -> None:
    said = words(text)
    assert "Data set A <made> data set (made)" in said
    assert "Licence CC0 & none" in said
    assert "Nobody (2025). <i>Nothing</i>. https://example.org/a?b=1&c=2." in said
    assert "8 train, 2 validation, 6 test" in said
    assert "4 × 4 pixels, raw values from 0 to 16" in said
    assert table(text, "Parameters of the training")[1:] == [
        ["model.architecture", "mlp"],
        ["model.mlp.hidden_units", "[]"],
        ["train.learning_rate", "0.001"],
        ["train.optimizer", "<b>adam</b>"],
    ]
    assert table(text, "Network: 2 layers, 51 parameters")[2] == ["dense", "Dense", "3", "51"]
    assert table(text, "Library versions")[1:] == [["keras", "3.15.1"], ["tensorflow", "2.21.0"]]


def test_the_only_address_is_the_citations(text: str) -> None:
    links = [link["href"] for link in Outline(text).all("a")]
    outside = [link for link in links if not link.startswith("#")]
    assert outside == ["https://example.org/a?b=1&c=2"]


def test_training_by_epoch(text: str) -> None:
    assert table(text, "Training by epoch")[1:] == [
        ["1", "0.001", "1.0000", "50.00 %", "0.9000", "55.00 %"],
        ["2", "0.001", "0.2500", "90.00 %", "0.5000", "85.00 %"],
    ]


def test_confusions(text: str) -> None:
    assert table(text, "Most frequent confusions") == [
        ["Actual class", "Predicted class", "Images", "Proportion of the actual class"],
        ["T-shirt/top", "<script>alert(1)</script>", "1", "50.00 %"],
        ["<script>alert(1)</script>", '"B" & a $x_ long name of two lines', "1", "50.00 %"],
    ]


def test_scores_by_class(text: str) -> None:
    rows = table(text, "Scores by class")
    assert rows[0] == ["Class", "Label", "Precision", "Recall", "F1", "Test images"]
    assert rows[1] == ["T-shirt/top", "0", "100.00 %", "50.00 %", "66.67 %", "2"]


def test_calibration_has_a_dash_where_no_images_are(text: str) -> None:
    assert table(text, "Calibration by confidence")[1:] == [
        ["0.0 % to 50.0 %", "0", "–", "–"],
        ["50.0 % to 100.0 %", "6", "80.00 %", "66.67 %"],
    ]


def test_misclassified_images_with_the_highest_confidence_first(text: str) -> None:
    rows = table(text, "Misclassified with the highest confidence")[1:]
    assert [(row[0], row[3], row[4], row[5]) for row in rows] == [
        ("4", "80.00 %", "15.00 %", "incorrect"),
        ("3", "60.00 %", "30.00 %", "incorrect"),
    ]


def test_every_figure_says_what_it_shows(text: str) -> None:
    said = [image["alt"] for image in Outline(text).all("img")]
    assert len(said) == 9
    assert all(re.search(r"\d", alt) and len(alt) > 60 for alt in said)


def test_chinese_names_stand_beside_those_of_the_figures(
    tmp_path: Path,
) -> None:
    text = plot_inputs.made_page(tmp_path, class_names="zh").read_text(encoding="utf-8")
    rows = table(text, "Scores by class")
    assert rows[0][:3] == ["Class", "In figures", "Label"]
    assert rows[1][:3] == ["T恤/上衣", "T-shirt/top", "0"]
    assert table(text, "Most frequent confusions")[1][:2] == ["T恤/上衣", "裤子"]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_smoothed_losses_are_not_to_be_compared_with_the_test_loss(
    tmp_path: Path, smoothing: float
) -> None:
    plot_inputs.write(tmp_path)
    path = tmp_path / "reports/train/run.json"
    run = json.loads(path.read_text(encoding="utf-8"))
    run["parameters"]["train.label_smoothing"] = smoothing
    path.write_text(json.dumps(run), encoding="utf-8")
    assert plot_inputs.write_texts(tmp_path).returncode == 0
    said = words((tmp_path / "reports/index.html").read_text(encoding="utf-8"))
    assert ("smoothed by 0.1, which the test loss is not" in said) == (smoothing > 0)


@pytest.mark.parametrize("penalties", [False, True])
def test_losses_with_penalties_are_not_to_be_compared_with_the_test_loss(
    tmp_path: Path, penalties: bool
) -> None:
    plot_inputs.write(tmp_path)
    path = tmp_path / "reports/train/run.json"
    run = json.loads(path.read_text(encoding="utf-8")) | {"penalties": penalties}
    path.write_text(json.dumps(run), encoding="utf-8")
    assert plot_inputs.write_texts(tmp_path).returncode == 0
    said = words((tmp_path / "reports/index.html").read_text(encoding="utf-8"))
    assert ("regularizers and its layers' own losses add" in said) == penalties


def test_page_and_card_say_what_the_temperature_did(tmp_path: Path) -> None:
    plot_inputs.write(tmp_path)
    path = tmp_path / "reports/train/metrics.json"
    training = json.loads(path.read_text(encoding="utf-8"))
    scaling = {
        "temperature": 0.4973,
        "temperature_low": 0.4412,
        "temperature_high": 0.5698,
        "uncalibrated_val_loss": 0.1138,
        "calibrated_val_loss": 0.0482,
    }
    path.write_text(json.dumps(training | scaling), encoding="utf-8")
    done = plot_inputs.write_texts(tmp_path)
    assert done.returncode == 0, done.stderr
    sentence = (
        "The logits are divided by a temperature of 0.497 (95 % interval 0.441 to 0.57), fitted to "
        "the validation images; their loss went from 0.1138 to 0.0482 by that."
    )
    assert sentence in words((tmp_path / "reports/index.html").read_text(encoding="utf-8"))
    assert sentence in (tmp_path / "reports/model_card.md").read_text(encoding="utf-8")


def test_page_and_card_say_what_the_training_started_from(tmp_path: Path) -> None:
    plot_inputs.write(tmp_path)
    for text in plot_inputs.pages(tmp_path):
        assert "Started from" not in text
        assert "tarted from" not in text
    path = tmp_path / "weights.yaml"
    catalogue = yaml.safe_load(path.read_text(encoding="utf-8"))
    catalogue["own"] = {
        **catalogue["none"],
        "title": "A <made> model",
        "licence": "CC BY & more",
        "citation": "Somebody (2024). https://example.org/x?a=1&b=2",
        "files": {"values": {"name": "own.keras", "sha256": "0" * 64}},
    }
    path.write_text(yaml.safe_dump(catalogue), encoding="utf-8")
    params = tmp_path / "params.yaml"
    text = params.read_text(encoding="utf-8")
    params.write_text(text.replace("weights: none", "weights: own"), encoding="utf-8")
    page, card = plot_inputs.pages(tmp_path)
    shown = words(page)
    assert "Started from A <made> model" in shown
    assert "Licence of the weights CC BY & more" in shown
    assert "Citation of the weights Somebody (2024)." in shown
    assert "It started from the weights named below. The validation images" in card.replace(
        "\n", " "
    )
    assert "Started from A \\<made\\> model. Licence of these weights: CC BY & more.\n" in card
    assert "Somebody (2024). https://example.org/x?a=1&b=2\n" in card


@pytest.mark.parametrize(
    ("monitor", "by"),
    [("val_loss", "lowest validation loss"), ("val_accuracy", "highest validation accuracy")],
)
def test_the_page_says_which_epoch_the_model_is_of(tmp_path: Path, monitor: str, by: str) -> None:
    plot_inputs.write(tmp_path)
    folder = tmp_path / "reports/train"
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    run["parameters"] |= {"train.keep": "best", "train.monitor": monitor}
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    first = {"train_loss": 1.0, "train_accuracy": 0.5, "val_loss": 0.9, "val_accuracy": 0.55}
    training = {**plot_inputs.TRAINING, **first, "best_epoch": 1}
    (folder / "metrics.json").write_text(json.dumps(training), encoding="utf-8")
    done = plot_inputs.write_texts(tmp_path)
    assert done.returncode == 0, done.stderr
    said = words((tmp_path / "reports/index.html").read_text(encoding="utf-8"))
    assert f"with the weights of epoch 1, the one of the {by} of 2 epochs:" in said
    assert "Training values are means over epoch 1," in said


def test_a_new_metric_is_shown_though_nothing_here_knows_it(tmp_path: Path) -> None:
    plot_inputs.write(tmp_path)
    folder = tmp_path / "reports/evaluate"
    with (folder / "metrics.csv").open("a", encoding="utf-8") as stream:
        stream.write("brier,Brier <score>,,lower\nkappa,Kappa,proportion,higher\n")
    values = {**plot_inputs.TEST, "brier": 0.34567, "kappa": 0.5}
    (folder / "metrics.json").write_text(json.dumps(values), encoding="utf-8")
    assert plot_inputs.write_texts(tmp_path).returncode == 0
    said = words((tmp_path / "reports/index.html").read_text(encoding="utf-8"))
    assert "Brier <score> 0.34567 lower is better" in said
    assert "Kappa 50.00 % higher is better" in said


def test_labels_worth_a_second_look(text: str) -> None:
    rows = table(text, "Labels worth a second look")
    assert rows[0][:4] == ["Split", "Image", "Class", "Likeliest other"]
    assert rows[1] == [
        *("test", "4", "<script>alert(1)</script>", '"B" & a $x_ long name of two lines'),
        *("15.00 %", "80.00 %", "-0.6500", ""),
    ]
    assert [[*row[:2], row[-1]] for row in rows[7:]] == [
        ["validation", "1", "<i>oak</i>/a long name of a camera's file.jpeg"],
        ["validation", "0", "橡树/1.png"],
    ]
    assert "For 3 of the 8 images in the table the model holds another class" in words(text)


def test_what_is_in_the_data(text: str) -> None:
    assert table(text, "Images by class and split")[1:] == [
        ["T-shirt/top", "0", "3", "1", "2"],
        ["<script>alert(1)</script>", "1", "3", "1", "2"],
        ['"B" & a $x_ long name of two lines', "2", "2", "0", "2"],
    ]
    # The images are ramps: test image 0 has the values 0 to 15 of 95, the next one 16 to 31
    rows = table(text, "Images by split")
    assert rows[0][:3] == ["Split", "Images", "Mean brightness"]
    assert rows[1][:4] == ["train", "8", "0.500", "0.289"]
    said = words(text)
    assert "All images are of 4 × 4 pixels." in said
    assert "3 of 3 classes have fewer than 10 training images: T-shirt/top (3), <script>" in said
    assert "No image is equal in every pixel to another one." in said
    assert "8 held-out images are nearly equal to a training image" in said
    assert "Warning" not in said


def test_files_left_out_open_the_page_and_the_table_is_named(tmp_path: Path) -> None:
    plot_inputs.write(tmp_path)
    path = tmp_path / "reports/data/metrics.json"
    path.write_text(path.read_text().replace('"unreadable_files": 0', '"unreadable_files": 2'))
    assert plot_inputs.write_texts(tmp_path).returncode == 0
    before = words((tmp_path / "reports/index.html").read_text(encoding="utf-8"))
    before = before.partition("On the test split")[0]
    assert "Warning: 2 files could not be read as an image and were left out." in before
    assert "Which ones: reports/data/tables/unreadable.csv. More: The data." in before


def test_leaks_and_conflicts_open_the_page(tmp_path: Path) -> None:
    plot_inputs.write(tmp_path)
    plot_inputs.plant_leaks(tmp_path)
    assert plot_inputs.write_texts(tmp_path).returncode == 0
    text = (tmp_path / "reports/index.html").read_text(encoding="utf-8")
    before = words(text).partition("On the test split")[0]
    assert (
        "Warning: 3 of 6 test images are in the training or validation split too, equal in every "
        "pixel." in before
    )
    assert "Warning: 1 image occurs more than once with different labels." in before
    rows = table(text, "Images that are equal in every pixel")
    assert rows[0] == ["Group", "Kind", "Split", "Image", "Class", "File"]
    assert [[*row[:4], row[5]] for row in rows[1:4]] == [
        ["0", "leak, conflict", "train", "3", "3.png"],
        ["0", "leak, conflict", "test", "2", ""],
        ["1", "leak", "train", "0", "0.png"],
    ]
