from pathlib import Path

import numpy as np
import pytest

from stages.lib.core.errors import UserError
from stages.lib.reporting import stage_outputs
from tests.stages import plot_inputs
from tests.stages.lib.reporting.test_figures import predictions as made
from tests.stages.plot_inputs import PREDICTIONS, PROBABILITIES

LABELS = PREDICTIONS.actual


def written(folder: Path, content: str) -> Path:
    path = folder / "table.csv"
    path.write_text(content, encoding="utf-8")
    return path


def test_predictions_come_back_as_written(tmp_path: Path) -> None:
    path = written(tmp_path, plot_inputs.predictions_csv(PROBABILITIES))
    predictions = stage_outputs.read_predictions(path, LABELS, 3)
    assert predictions.actual.tolist() == [0, 1, 2, 0, 1, 2]
    assert predictions.predicted.tolist() == [0, 1, 2, 1, 2, 2]
    np.testing.assert_array_equal(predictions.probabilities, PROBABILITIES)
    assert predictions.correct.tolist() == [True, True, True, False, False, True]
    assert predictions.confidences.tolist() == [0.9, 0.7, 0.8, 0.6, 0.8, 1.0]


def test_one_prediction_is_a_table_too(tmp_path: Path) -> None:
    path = written(tmp_path, plot_inputs.predictions_csv(PROBABILITIES[:1]))
    assert stage_outputs.read_predictions(path, LABELS[:1], 3).probabilities.shape == (1, 3)


HEADER = "index,actual,predicted,probability_0,probability_1,probability_2\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (plot_inputs.predictions_csv(PROBABILITIES[:5]), ["6 rows", "found 5 rows"]),
        (HEADER, ["6 rows", "found 0 rows"]),
        ("", ["columns index, actual", "found 1 columns"]),
        (HEADER.replace("predicted", "guess"), ["columns index, actual, predicted", "guess"]),
        (HEADER.replace(",probability_2", ""), ["for 3 classes", "found 5 columns"]),
        (HEADER + "0,0,0,0.9,0.1\n" * 6, ["6 rows of 6 cells", "found 6 of 5"]),
        (HEADER + "0,0,0,0.9,x,0.1\n" * 6, ["numbers in every cell"]),
        (
            "".join([HEADER, *(f"{at},1,0,0.9,0.1,0.0\n" for at in range(6))]),
            ["0 for image 0", "found 1"],
        ),
        (
            plot_inputs.predictions_csv(PROBABILITIES).replace("3,0,1,", "3,0,3,"),
            ["predicted labels from 0 to 2", "found 0 to 3"],
        ),
    ],
)
def test_predictions_of_another_test_set_are_an_error(
    tmp_path: Path, content: str, said: list[str]
) -> None:
    path = written(tmp_path, content)
    with pytest.raises(UserError) as error:
        stage_outputs.read_predictions(path, LABELS, 3)
    for text in (path.as_posix(), "expected", *said, "dvc repro"):
        assert text in str(error.value)
    assert len(str(error.value).splitlines()) == 2


def test_the_history_has_the_columns_that_there_are(tmp_path: Path) -> None:
    history = stage_outputs.read_history(
        written(tmp_path, "epoch,loss,accuracy\n1.0,2.5,0.5\n2.0,1.5,0.75\n")
    )
    assert set(history) == {"epoch", "loss", "accuracy"}
    assert history["epoch"].tolist() == [1, 2]
    assert history["loss"].tolist() == [2.5, 1.5]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("epoch,accuracy\n1,0.5\n", "a column loss; found epoch, accuracy"),
        ("epoch,loss,accuracy\n", "at least one row"),
        ("epoch,loss,accuracy\n1,bad,0.5\n", "numbers in column loss"),
        ("epoch,loss,accuracy\n1,0.5\n", "3 cells in row 1"),
        ("epoch,loss,accuracy\n1,,0.5\n", "a finite number in column loss of row 1; found none"),
        ("epoch,loss,accuracy\n1,inf,0.5\n", "a finite number in column loss of row 1; found inf"),
        ("epoch,loss,accuracy\n1,1,7\n", "a proportion in column accuracy of row 1; found 7"),
        ("epoch,loss,accuracy\n2,1,0\n1,1,0\n", "the epochs 1 to 2 in order; found 2, 1"),
        ("epoch,loss,accuracy,lr\n1,1,0,1\n", "no columns but epoch, .*; found lr"),
    ],
)
def test_a_broken_history_is_an_error(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        stage_outputs.read_history(written(tmp_path, content))


def test_a_loss_that_layers_made_negative_is_none(tmp_path: Path) -> None:
    text = "epoch,loss,accuracy,val_loss,val_accuracy\n1,-2.5,0.5,-3,0.5\n"
    history = stage_outputs.read_history(written(tmp_path, text))
    assert (history["loss"].tolist(), history["val_loss"].tolist()) == ([-2.5], [-3.0])


def test_scores_by_class(tmp_path: Path) -> None:
    path = written(tmp_path, plot_inputs.PER_CLASS)
    scores = stage_outputs.read_per_class(path, PREDICTIONS)
    assert scores.recall.tolist() == [0.5, 0.5, 1.0]
    assert scores.support.tolist() == [2, 2, 2]
    path.write_text("".join(plot_inputs.PER_CLASS.splitlines(keepends=True)[:3]))
    with pytest.raises(UserError, match=r"labels 0 to 2 in order; found 0, 1\."):
        stage_outputs.read_per_class(path, PREDICTIONS)


def test_scores_of_a_class_without_images_are_empty_and_no_others_are(tmp_path: Path) -> None:
    actual, probabilities = np.array([0, 0, 2]), np.eye(4)[[0, 0, 0]]
    predictions = stage_outputs.Predictions(actual, probabilities.argmax(axis=1), probabilities)
    table = (
        "label,class,precision,recall,f1,support\n0,a,0.666667,1.000000,0.800000,2\n"
        "1,b,,,,0\n2,c,,0.000000,0.000000,1\n3,d,,,,0\n"
    )
    path = written(tmp_path, table)
    scores = stage_outputs.read_per_class(path, predictions)
    np.testing.assert_array_equal(scores.recall, [1, np.nan, 0, np.nan])
    path.write_text(table.replace("1,b,,,,0", "1,b,,0.000000,,0"))
    with pytest.raises(UserError, match="a proportion in column recall of row 2; found 0"):
        stage_outputs.read_per_class(path, predictions)
    path.write_text(table.replace(",,0.000000,0.000000,1", ",,,0.000000,1"))
    with pytest.raises(UserError, match="a proportion in column recall of row 3; found none"):
        stage_outputs.read_per_class(path, predictions)


def test_calibration_has_no_values_where_no_images_are(tmp_path: Path) -> None:
    path = written(tmp_path, plot_inputs.CALIBRATION)
    bins = stage_outputs.read_calibration(path, PREDICTIONS)
    assert bins.edges.tolist() == [0, 0.5, 1]
    assert bins.images.tolist() == [0, 6]
    np.testing.assert_array_equal(bins.accuracy, [np.nan, 0.666667])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "expected JSON"),
        ("[1]", "a JSON object; found list"),
        ('{"a": 1}', "key loss; found a"),
    ],
)
def test_broken_metrics_are_an_error(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        stage_outputs.read_json(written(tmp_path, content), ("loss",))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    for read in (stage_outputs.read_run, stage_outputs.read_history):
        with pytest.raises(UserError, match="not found"):
            read(tmp_path / "none")
    for read_checked in (stage_outputs.read_per_class, stage_outputs.read_calibration):
        with pytest.raises(UserError, match="not found"):
            read_checked(tmp_path / "none", PREDICTIONS)
    with pytest.raises(UserError, match="not found"):
        stage_outputs.read_predictions(tmp_path / "none", LABELS, 3)


def test_misclassified_images_are_those_of_the_highest_confidence() -> None:
    assert stage_outputs.misclassified(PREDICTIONS, 9) == [4, 3]
    assert stage_outputs.misclassified(PREDICTIONS, 1) == [4]


def test_misclassified_images_of_equal_confidence_keep_their_order() -> None:
    actual = np.array([0, 0, 0])
    probabilities = np.array([[0.2, 0.8], [0.1, 0.9], [0.2, 0.8]])
    predictions = stage_outputs.Predictions(actual, actual + 1, probabilities)
    assert stage_outputs.misclassified(predictions, 9) == [1, 0, 2]


def test_confusions_are_the_most_frequent_first() -> None:
    predictions = made(np.array([[90, 4, 6], [0, 0, 0], [6, 0, 18]]))
    confusions = stage_outputs.confusions(predictions, 9)
    assert [(pair.actual, pair.predicted, pair.images) for pair in confusions] == [
        (0, 2, 6),
        (2, 0, 6),
        (0, 1, 4),
    ]
    assert [pair.proportion for pair in confusions] == [0.06, 0.25, 0.04]
    assert len(stage_outputs.confusions(predictions, 1)) == 1
    assert stage_outputs.confusions(made(np.diag([3, 4])), 9) == []
