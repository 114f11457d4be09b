import numpy as np
import pytest

from stages.lib.training import schedule


def test_constant_without_warm_up_is_constant() -> None:
    assert schedule.learning_rates(0.1, "constant", 0.0, 3) == pytest.approx([0.1, 0.1, 0.1])


def test_linear_rises_over_the_warm_up_and_falls_over_the_rest() -> None:
    found = schedule.learning_rates(1.0, "linear", 0.5, 8)
    assert found == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25])


def test_cosine_falls_along_half_a_wave() -> None:
    found = schedule.learning_rates(2.0, "cosine", 0.0, 4)
    assert found == pytest.approx([2.0, 1 + np.sqrt(0.5), 1.0, 1 - np.sqrt(0.5)], rel=1e-6)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
def test_one_step_has_the_peak(name: str) -> None:
    assert schedule.learning_rates(0.3, name, 0.1, 1) == pytest.approx([0.3])


def test_rates_are_float32() -> None:
    assert schedule.learning_rates(0.3, "cosine", 0.1, 10).dtype == np.float32
