import math

import pytest

from stages.lib.metrics import wilson_interval
from tools.compare.statistics import (
    fisher_exact,
    holm,
    independent_interval,
    mcnemar_exact,
    paired_interval,
    t_quantile,
)


# Newcombe, R. G. (1998). Two-sided confidence intervals for the single proportion. Statistics in
# Medicine, 17, 857-872, table I, method 3.
@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_is_as_published(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("fixed", "broken", "p_value"),
    [
        # Stata Base Reference Manual, Epitab, the example `mcci 8 8 3 8`
        (8, 3, 0.2265625),
        # Bentur et al. (2009), 21 children; example of Fagerland et al. (2013), BMC Medical
        # Research Methodology, 13:91: 2 (1 + 8) / 2^8
        (1, 7, 0.0703125),
        # Cavo et al. (2012), 161 patients; R package contingencytables, which goes with Fagerland,
        # Lydersen and Laake (2017), Statistical Analysis of Contingency Tables, chapter 8
        (16, 6, 0.052479),
        # An allergy medication, 379 patients; lecture note 17, "Paired and Matched Binary Data",
        # Stata's `bitesti 128 71 .5`
        (71, 57, 0.250440),
    ],
)
def test_mcnemar_is_as_published(fixed: int, broken: int, p_value: float) -> None:
    assert mcnemar_exact(fixed, broken) == pytest.approx(p_value, abs=5e-7)
    assert mcnemar_exact(broken, fixed) == mcnemar_exact(fixed, broken)


def test_mcnemar_where_nothing_or_as_much_changed_both_ways_is_1() -> None:
    assert mcnemar_exact(0, 0) == 1
    assert mcnemar_exact(5, 5) == 1


def test_mcnemar_of_many_images_agrees_with_the_normal_approximation() -> None:
    z = (abs(5100 - 4900) - 1) / math.sqrt(10_000)  # with the correction for continuity
    assert mcnemar_exact(5100, 4900) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)


# Newcombe, R. G. (1998). Improved confidence intervals for the difference between binomial
# proportions based on paired data. Statistics in Medicine, 17, 2635-2650, table III, method 10.
@pytest.mark.parametrize(
    ("both", "second", "first", "neither", "low", "high"),
    [
        (36, 12, 2, 0, 0.0569, 0.3404),
        (20, 12, 2, 16, 0.0562, 0.3292),
        (18, 12, 2, 18, 0.0562, 0.3290),
        (36, 14, 0, 0, 0.1528, 0.4167),
        (2, 97, 1, 0, 0.8721, 0.9854),
        (0, 30, 0, 0, 0.8395, 1.0000),
        (54, 0, 0, 0, -0.0664, 0.0664),
        (27, 0, 0, 27, -0.0351, 0.0351),
    ],
)
def test_paired_interval_is_as_published(
    both: int, second: int, first: int, neither: int, low: float, high: float
) -> None:
    found = paired_interval(both, second, first, neither)
    assert found == pytest.approx((low, high), abs=6e-5)


def test_paired_interval_of_the_consolidation_therapy() -> None:
    # Cavo et al. (2012), as the R package contingencytables gives it: -0.1186 to -0.0046
    assert paired_interval(59, 6, 16, 80) == pytest.approx((-0.1186, -0.0046), abs=5e-5)


# Newcombe, R. G. (1998). Interval estimation for the difference between independent proportions.
# Statistics in Medicine, 17, 873-890, table II, method 10.
@pytest.mark.parametrize(
    ("right", "images", "other_right", "other_images", "low", "high"),
    [
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (6, 7, 2, 7, 0.0582, 0.8062),
        (5, 56, 0, 29, -0.0381, 0.1926),
        (0, 10, 0, 20, -0.1611, 0.2775),
        (0, 10, 0, 10, -0.2775, 0.2775),
        (10, 10, 0, 20, 0.6791, 1.0000),
        (10, 10, 0, 10, 0.6075, 1.0000),
    ],
)
def test_independent_interval_is_as_published(
    right: int, images: int, other_right: int, other_images: int, low: float, high: float
) -> None:
    found = independent_interval(other_right, other_images, right, images)
    assert found == pytest.approx((low, high), abs=6e-5)


@pytest.mark.parametrize(
    ("totals", "p_value"),
    [
        ((3, 4, 1, 4), 0.4857),  # Fisher's lady tasting tea, two-sided: 34 / 70
        ((2, 12, 15, 18), 0.0005367),  # Fisher's twins of convicts, R's example of fisher.test
        ((0, 5, 0, 7), 1.0),
        ((5, 5, 7, 7), 1.0),
    ],
)
def test_fisher_is_as_published(totals: tuple[int, int, int, int], p_value: float) -> None:
    assert fisher_exact(*totals) == pytest.approx(p_value, rel=1e-3)
    assert fisher_exact(*totals[2:], *totals[:2]) == fisher_exact(*totals)


def test_holm_corrects_by_rank() -> None:
    # 4 x 0.005; 3 x 0.01; 2 x 0.03; the last may not be below the one before it
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("probability", "degrees", "value"),
    [(0.975, 1, 12.706205), (0.995, 2, 9.924843), (0.975, 30, 2.042272), (0.9, 5, 1.475884)],
)
def test_quantiles_are_those_of_the_tables(
    probability: float, degrees: float, value: float
) -> None:
    assert t_quantile(probability, degrees) == pytest.approx(value, rel=1e-6)
