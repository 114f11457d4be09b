import math

import numpy as np
import pytest

from stages.lib import metrics

# Six images of three classes, by hand: two correct of class 0, one of class 1, none of class 2
ACTUAL = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 0, 0])


def test_log_softmax_of_large_logits_is_finite() -> None:
    found = metrics.log_softmax(np.array([[1000.0, 1000.0, 0.0]], np.float32))
    assert found[0, :2] == pytest.approx([-math.log(2)] * 2)
    assert found[0, 2] == pytest.approx(-1000 - math.log(2))


def test_cross_entropy_is_the_mean_negative_log_probability() -> None:
    logs = np.log(np.array([[0.5, 0.5], [0.2, 0.8]]))
    assert metrics.cross_entropy(logs, np.array([0, 0])) == pytest.approx(
        (math.log(2) + math.log(5)) / 2
    )


def test_the_loss_of_a_model_that_is_surely_right_is_no_negative_zero() -> None:
    assert math.copysign(1, metrics.cross_entropy(np.array([[0.0, -np.inf]]), np.array([0]))) == 1


def test_top_k_counts_labels_among_the_k_most_probable() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    labels = np.array([0, 1, 2])
    assert metrics.top_k_accuracy(probabilities, labels, 1) == pytest.approx(1 / 3)
    assert metrics.top_k_accuracy(probabilities, labels, 2) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # Newcombe (1998), Two-sided confidence intervals for the single proportion, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_equals_published_values(
    successes: int, trials: int, low: float, high: float
) -> None:
    assert metrics.wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_of_all_correct_ends_at_one() -> None:
    assert metrics.wilson_interval(20, 20)[1] == 1.0


def test_confusion_matrix_has_actual_classes_by_row() -> None:
    assert metrics.confusion_matrix(ACTUAL, PREDICTED, 3).tolist() == [
        [2, 1, 0],
        [1, 1, 0],
        [1, 0, 0],
    ]


def test_per_class_values_by_hand() -> None:
    found = metrics.per_class(metrics.confusion_matrix(ACTUAL, PREDICTED, 3))
    np.testing.assert_array_equal(found.precision, [2 / 4, 1 / 2, np.nan])
    assert found.recall == pytest.approx([2 / 3, 1 / 2, 0])
    assert found.f1 == pytest.approx([4 / 7, 1 / 2, 0])
    assert found.support.tolist() == [3, 2, 1]
    # a fourth class that is never predicted, and a fifth that has no images either
    more = metrics.per_class(metrics.confusion_matrix(np.array([0, 3]), np.array([0, 0]), 5))
    nan = np.nan
    np.testing.assert_array_equal(more.precision, [1 / 2, nan, nan, nan, nan])
    np.testing.assert_array_equal(more.recall, [1, nan, nan, 0, nan])
    np.testing.assert_array_equal(more.f1, [2 / 3, nan, nan, 0, nan])
    once = metrics.per_class(np.eye(2, dtype=np.int64))  # each class of one image
    assert (once.precision.tolist(), once.recall.tolist()) == ([1, 1], [1, 1])


@pytest.mark.parametrize(
    ("labels", "predicted", "num_classes", "expected"),
    [
        # F1 of class 0: 2 correct of 2 predicted and 2 actual; 1: 1 of 1 and 2; 2: 0 of 1 and 0
        ([0, 0, 1, 1], [0, 0, 1, 2], 3, (1 + 2 / 3 + 0) / 3),
        # A class that neither labels nor predictions hold is left out
        (ACTUAL, PREDICTED, 4, (4 / 7 + 1 / 2 + 0) / 3),
        # Never predicted, and present: 0; every image as class 0: 1 correct of 4 and 1
        ([0, 1, 1, 2], [0, 0, 0, 0], 3, (2 / 5 + 0 + 0) / 3),
    ],
)
def test_macro_f1_is_the_mean_over_classes_that_occur_in_labels_or_predictions(
    labels: list[int], predicted: list[int], num_classes: int, expected: float
) -> None:
    confusion = metrics.confusion_matrix(np.array(labels), np.array(predicted), num_classes)
    assert metrics.macro_f1(confusion) == pytest.approx(expected)


def test_macro_f1_by_published_rules_is_a_rounded_0_556() -> None:
    # sklearn.metrics.f1_score([0, 0, 1, 1], [0, 0, 1, 2], average="macro") says 0.5555...
    confusion = metrics.confusion_matrix(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2]), 3)
    assert round(metrics.macro_f1(confusion), 3) == 0.556


def test_margins_by_hand() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.25, 0.5, 0.25], [0, 0, 1]])
    margins, others = metrics.margins(probabilities, np.array([0, 1, 1, 2]))
    assert margins.tolist() == pytest.approx([0.2, -0.5, 0.25, 1])
    assert others.tolist() == [1, 2, 0, 0]


def test_the_table_of_metrics_by_hand() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.1, 0.8, 0.1]])
    outcome = metrics.Outcome(np.log(probabilities), np.array([0, 2, 2, 1]))
    values = {metric.name: metric.compute(outcome) for metric in metrics.METRICS}
    # Wilson's interval of 3 of 4; confidences .5, .6, .7, .8, each in a bin of its own of 15, only
    # that of .6 incorrect; F1 of the classes: 1 of 2 and 1, 1 of 1 and 1, 1 of 1 and 2
    assert values == {
        "loss": pytest.approx(-(math.log(0.5) + math.log(0.1) + math.log(0.7) + math.log(0.8)) / 4),
        "accuracy": 0.75,
        "accuracy_low": pytest.approx(0.300642, abs=1e-6),
        "accuracy_high": pytest.approx(0.954413, abs=1e-6),
        "macro_f1": pytest.approx((2 / 3 + 1 + 2 / 3) / 3),
        "expected_calibration_error": pytest.approx((0.5 + 0.6 + 0.3 + 0.2) / 4),
        "top2_accuracy": 0.75,
        "images": 4,
    }


def test_each_metric_has_a_name_a_label_a_unit_and_a_direction() -> None:
    names = [metric.name for metric in metrics.METRICS]
    labels = [metric.label for metric in metrics.METRICS]
    assert len(set(names)) == len(set(labels)) == len(names)
    assert {metric.unit for metric in metrics.METRICS} <= {"nats", "proportion", "images", ""}
    directions = {metric.name: metric.better for metric in metrics.METRICS}
    assert directions["loss"] == directions["expected_calibration_error"] == "lower"
    assert directions["accuracy"] == directions["macro_f1"] == "higher"
    assert directions["images"] == ""


def test_calibration_error_by_hand() -> None:
    # Confidences 0.9 and 0.8 fall into the upper of two bins, one of them correct; 0.5 below
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.5, 0.5]])
    found = metrics.calibration(probabilities, np.array([0, 1, 0]), bins=2)
    assert found.images.tolist() == [1, 2]
    assert found.confidence == pytest.approx([0.5, 0.85])
    assert found.accuracy == pytest.approx([1.0, 0.5])
    assert metrics.expected_calibration_error(found) == pytest.approx((1 * 0.5 + 2 * 0.35) / 3)


def test_empty_bins_hold_no_number() -> None:
    found = metrics.calibration(np.array([[1.0, 0.0]]), np.array([0]), bins=4)
    assert found.images.tolist() == [0, 0, 0, 1]
    assert np.isnan(found.confidence[:3]).all()
    assert metrics.expected_calibration_error(found) == 0.0
