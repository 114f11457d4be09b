import math

import numpy as np
import pytest

from tools.compare import evidence
from tools.compare.evidence import Floats
from tools.compare.statistics import t_quantile, t_tail


# Student's t, upper 2.5 %, as tables print it (Fisher and Yates, Statistical Tables, table III)
@pytest.mark.parametrize(
    ("degrees", "value"),
    [
        (1, 12.7062),
        (2, 4.3027),
        (3, 3.1824),
        (4, 2.7764),
        (10, 2.2281),
        (30, 2.0423),
        (120, 1.9799),
    ],
)
def test_t_quantile_is_as_published(degrees: int, value: float) -> None:
    assert t_quantile(0.975, degrees) == pytest.approx(value, abs=6e-5)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0, 2.5, 8.0, 60.0])
def test_t_tail_agrees_with_the_closed_forms(value: float) -> None:
    assert t_tail(value, 1) == pytest.approx(0.5 - math.atan(value) / math.pi, abs=1e-13)
    assert t_tail(value, 2) == pytest.approx(0.5 - value / 2 / math.sqrt(2 + value**2), abs=1e-13)
    root = value / math.sqrt(4 + value**2)
    assert t_tail(value, 4) == pytest.approx(0.5 - 0.75 * root + root**3 / 4, abs=1e-13)
    assert t_tail(value, math.inf) == pytest.approx(math.erfc(value / math.sqrt(2)) / 2)


@pytest.mark.parametrize("degrees", [2.37, 3.91, 17.6])
def test_t_tail_of_broken_degrees_agrees_with_the_integral_of_the_density(degrees: float) -> None:
    x = np.linspace(0, 1.7, 20_001)
    density = (1 + x**2 / degrees) ** (-(degrees + 1) / 2)
    scale = math.gamma((degrees + 1) / 2) / math.gamma(degrees / 2) / math.sqrt(degrees * math.pi)
    assert t_tail(1.7, degrees) == pytest.approx(0.5 - scale * np.trapezoid(density, x), abs=1e-8)


def constant(*levels: float, images: int = 50) -> Floats:
    """A table whose trainings differ by a level alone; images vary, equally for all."""
    own = np.linspace(-1, 1, images)
    return np.array(levels)[:, None] + own


def test_where_only_the_trainings_vary_it_is_welchs_t() -> None:
    # By hand: variances 8.3333 and 10.3333, V = 2.08333 + 3.44444, difference 5.16667,
    # t = 5.16667 / 2.35112 = 2.19754;
    # df = 5.52778^2 / (2.08333^2 / 3 + 3.44444^2 / 2) = 4.14106
    found = evidence.weigh(constant(11, 12, 17), constant(15, 18, 19, 22))
    assert found.difference == pytest.approx(31 / 6)
    assert found.degrees == pytest.approx(4.14106, abs=1e-5)
    assert found.p_value == pytest.approx(2 * t_tail(2.19754, 4.14106), abs=1e-6)
    assert found.verdict() == "no difference"


def test_where_only_the_images_vary_it_is_the_paired_t() -> None:
    # Student (1908), the additional hours of sleep of ten patients: t = 4.0621, 9 df, p = 0.002833
    one = np.array([[0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]])
    two = np.array([[1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]])
    found = evidence.weigh(one, two)
    assert found.degrees == pytest.approx(9)
    assert found.p_value == pytest.approx(0.002833, abs=1e-6)
    assert (found.low, found.high) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)
    assert found.verdict() == "unknown"  # one training a side
    assert not found.both_chances


def test_a_pure_image_difference_of_many_trainings_is_found_and_named() -> None:
    rng = np.random.default_rng(1)
    before = (rng.random((5, 2000)) < 0.90).astype(np.float64)
    after = (rng.random((5, 2000)) < 0.93).astype(np.float64)
    found = evidence.weigh(before, after)
    assert found.verdict() == "better"
    assert evidence.weigh(before, after, higher_is_better=False).verdict() == "worse"


def simulated(
    rng: np.random.Generator, trainings: tuple[int, int], *spreads: float
) -> tuple[Floats, Floats]:
    """Two sides of equal means whose trainings, images and single cells all vary."""
    own = rng.normal(0, 0.3, 200)
    tables = []
    for count, spread in zip(trainings, [*spreads, *spreads], strict=False):
        levels = rng.normal(0, spread, (count, 1))
        side = rng.normal(0, 0.2, 200)  # images that this side is better or worse at
        tables.append(levels + own + side + rng.normal(0, 0.3, (count, 200)))
    return tables[0], tables[1]


def test_two_that_agree_by_chance_vary_as_the_others_do() -> None:
    # By hand: variances 2.5 of five and 0.02 of two; alike (4 * 2.5 + 0.02) / 5 = 2.004, which
    # makes V = 2.004 * (1 / 5 + 1 / 2) = 1.4028 on 5 df; unlike it would be 0.51 on 4
    found = evidence.weigh(constant(10, 11, 12, 13, 14), constant(14.0, 14.2))
    assert found.degrees == pytest.approx(5)
    assert found.p_value == pytest.approx(2 * t_tail(2.1 / math.sqrt(1.4028), 5), abs=1e-6)
    assert found.verdict() == "no difference"


@pytest.mark.parametrize("trainings", [(3, 3), (1, 3), (2, 5), (10, 2), (3, 2)])
@pytest.mark.parametrize("spread", [0.0, 0.05, 0.2])
def test_the_interval_covers_nothing_in_at_least_95_of_100(
    trainings: tuple[int, int], spread: float
) -> None:
    rng = np.random.default_rng(7)
    runs = 300
    missed = sum(
        evidence.weigh(*simulated(rng, trainings, spread)).p_value < 0.05 for _ in range(runs)
    )
    assert missed / runs <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize("trainings", [(10, 2), (3, 2)])
def test_two_that_vary_four_times_as_much_are_told_apart_from_many_too_often(
    trainings: tuple[int, int],
) -> None:
    rng = np.random.default_rng(7)
    tables = (simulated(rng, trainings, 0.05, 0.2) for _ in range(300))
    missed = sum(evidence.weigh(*each).p_value < 0.05 for each in tables)
    assert 0.05 < missed / 300 < 0.13


def test_one_training_against_three_takes_their_spread_for_both() -> None:
    found = evidence.weigh(constant(10), constant(11, 12, 13))
    # the spread of 11, 12, 13 is 1: V = 1 + 1 / 3, on 2 df
    assert not found.both_chances  # the one's own is not known
    assert found.degrees == pytest.approx(2)
    assert found.p_value == pytest.approx(2 * t_tail(2 / math.sqrt(4 / 3), 2), abs=1e-9)


def test_equal_accuracies_of_three_trainings_are_not_taken_for_no_spread() -> None:
    # each training misclassifies two other images: the means agree by chance
    before, after = np.ones((3, 60)), np.ones((3, 60))
    for at in range(3):
        before[at, 2 * at : 2 * at + 3] = 0
        after[at, 20 + 2 * at : 22 + 2 * at] = 0
    found = evidence.weigh(before, after)
    assert found.verdict() == "no difference"
    assert found.low < 0 < found.high


def test_the_same_predictions_are_no_difference() -> None:
    same = np.ones((1, 20))
    found = evidence.weigh(same, same)
    assert (found.p_value, found.low, found.high) == (1.0, 0.0, 0.0)


def test_one_image_says_nothing() -> None:
    assert evidence.weigh(np.zeros((3, 1)), np.ones((3, 1))).verdict() == "no difference"


def test_one_image_leaves_the_accuracy_open() -> None:
    assert evidence.mean_interval(np.array([[1.0], [0.0]])) == (0.0, 1.0)


def test_the_interval_of_an_accuracy_stays_within_0_to_1() -> None:
    table = np.ones((3, 50))
    table[0, 0] = 0
    low, high = evidence.mean_interval(table)
    assert 0.95 < low < table.mean() < high == 1
