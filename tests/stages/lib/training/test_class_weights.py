import numpy as np
import pytest

from stages.lib.training import class_weights


def test_balanced_weights_are_in_inverse_proportion_and_of_mean_1_over_the_images() -> None:
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 3])
    weights = class_weights.balanced(labels, 4)
    assert weights.tolist() == [0.5, 1.5, 0.0, 3.0]  # 9 images of 3 classes: 9 / (3 x images)
    assert weights[labels].mean() == pytest.approx(1)


def test_equal_classes_have_the_weight_1() -> None:
    assert class_weights.balanced(np.array([2, 1, 0]), 3).tolist() == [1, 1, 1]
