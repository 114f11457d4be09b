import math

import numpy as np
import pytest

from stages.lib import metrics

# Six images of three classes, by hand: two right of class 0, one of class 1, none of class 2
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


def test_wilson_interval_of_all_right_ends_at_one() -> None:
    assert metrics.wilson_interval(20, 20)[1] == 1.0


def test_confusion_matrix_has_actual_classes_by_row() -> None:
    assert metrics.confusion_matrix(ACTUAL, PREDICTED, 3).tolist() == [
        [2, 1, 0],
        [1, 1, 0],
        [1, 0, 0],
    ]


def test_per_class_values_by_hand() -> None:
    found = metrics.per_class(metrics.confusion_matrix(ACTUAL, PREDICTED, 3))
    assert found.precision == pytest.approx([2 / 4, 1 / 2, 0])
    assert found.recall == pytest.approx([2 / 3, 1 / 2, 0])
    assert found.f1 == pytest.approx([4 / 7, 1 / 2, 0])
    assert found.support.tolist() == [3, 2, 1]


def test_macro_f1_leaves_out_classes_that_never_occur() -> None:
    found = metrics.per_class(metrics.confusion_matrix(ACTUAL, PREDICTED, 4))
    assert metrics.macro_f1(found) == pytest.approx((4 / 7 + 1 / 2 + 0) / 3)


def test_calibration_error_by_hand() -> None:
    # Confidences 0.9 and 0.8 fall into the upper of two bins, one of them right; 0.5 into the lower
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
