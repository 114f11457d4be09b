"""Whether a difference of proportions is real: exact tests, intervals, Student's t, Holm's method.

scipy has the two tests and not the rest; `import keras` loads 76 of its modules wherever it is
installed, so the tests are written here, in whole numbers and therefore exact. All of this is
checked against published values in tests/tools/compare.
"""

import math
from collections.abc import Sequence

from stages.lib.metrics import wilson_interval

LEVEL = 0.05  # below it a difference counts as real; the intervals hold the other 95 %


def mcnemar_exact(fixed: int, broken: int) -> float:
    """The two-sided p-value of McNemar's exact test.

    Under the hypothesis that both models are equally good, each image that only one of them
    classifies correctly is a fair toss of a coin.

    Source: McNemar, Q. (1947). Note on the sampling error of the difference between correlated
    proportions or percentages. Psychometrika, 12(2), 153-157; exact form as in Fagerland, M. W.,
    Lydersen, S. and Laake, P. (2013). BMC Medical Research Methodology, 13:91, equation 3.

    Args:
        fixed: Images that only the second model classifies correctly.
        broken: Images that only the first model classifies correctly.

    Returns:
        The probability of a split at least as uneven, 0 to 1; 1 when no image differs.
    """
    tosses = fixed + broken
    ways = term = 1
    for heads in range(min(fixed, broken)):
        term = term * (tosses - heads) // (heads + 1)
        ways += term
    return min(1.0, ways / (1 << tosses) * 2)


def paired_interval(both: int, fixed: int, broken: int, neither: int) -> tuple[float, float]:
    """The 95 % interval of the difference of paired proportions, second minus first.

    Source: Newcombe, R. G. (1998). Improved confidence intervals for the difference between
    binomial proportions based on paired data. Statistics in Medicine, 17(22), 2635-2650, method 10.

    Args:
        both: Images that both models classify correctly.
        fixed: Images that only the second classifies correctly.
        broken: Images that only the first classifies correctly.
        neither: Images that both misclassify; the four sum to at least 1.

    Returns:
        Lower and upper limit, -1 to 1.
    """
    images = both + fixed + broken + neither
    first, second = both + broken, both + fixed
    product = first * (images - first) * second * (images - second)
    excess = both * neither - fixed * broken
    corrected = max(excess - images / 2, 0) if excess > 0 else excess
    phi = corrected / math.sqrt(product) if product else 0.0
    return _square_and_add(second, images, first, images, phi)


def independent_interval(
    correct_before: int, images_before: int, correct_after: int, images_after: int
) -> tuple[float, float]:
    """The 95 % interval of the difference of two independent proportions, second minus first.

    Source: Newcombe, R. G. (1998). Interval estimation for the difference between independent
    proportions: comparison of eleven methods. Statistics in Medicine, 17(8), 873-890, method 10.

    Returns:
        Lower and upper limit, -1 to 1.
    """
    return _square_and_add(correct_after, images_after, correct_before, images_before, 0.0)


def _square_and_add(
    correct: int, images: int, other_correct: int, other_images: int, phi: float
) -> tuple[float, float]:
    """Limits of the first proportion minus the second, out of the Wilson interval of each."""
    proportion, other = correct / images, other_correct / other_images
    low, high = wilson_interval(correct, images)
    other_low, other_high = wilson_interval(other_correct, other_images)
    below = _distance(proportion - low, other_high - other, phi)
    above = _distance(high - proportion, other - other_low, phi)
    return proportion - other - below, proportion - other + above


def _distance(a: float, b: float, phi: float) -> float:
    return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))


def fisher_exact(
    correct_before: int, images_before: int, correct_after: int, images_after: int
) -> float:
    """The two-sided p-value of Fisher's exact test for two independent proportions.

    Source: Fisher, R. A. (1935). The logic of inductive inference. Journal of the Royal
    Statistical Society, 98(1), 39-82; two-sided as R does it: all tables that are no more probable.

    Returns:
        The probability of totals at least as unlikely when both models are equally good, 0 to 1.
    """
    correct, images = correct_before + correct_after, images_before + images_after
    lowest = max(0, correct - images_after)
    ways = [math.comb(images_before, lowest) * math.comb(images_after, correct - lowest)]
    for x in range(lowest, min(correct, images_before)):
        rest = correct - x
        step = (images_before - x) * rest
        ways.append(ways[-1] * step // ((x + 1) * (images_after - rest + 1)))
    found = ways[correct_before - lowest]
    return sum(way for way in ways if way <= found) / math.comb(images, correct)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, corrected so that they may be read together.

    With K classes without any difference, one of K tests at 5 % would often come out by chance.

    Source: Holm, S. (1979). A simple sequentially rejective multiple test procedure.
    Scandinavian Journal of Statistics, 6(2), 65-70.
    """
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, at in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = highest
    return corrected


def t_tail(value: float, degrees: float) -> float:
    """The probability that Student's t exceeds a value.

    Source: Abramowitz, M. and Stegun, I. A. (1964). Handbook of Mathematical Functions, 26.5.8 and
    26.7.1: the incomplete beta function by its continued fraction.

    Args:
        value: 0 or more.
        degrees: Of freedom, more than 0, not necessarily whole; infinite for the normal
            distribution.

    Returns:
        The probability, 0 to 0.5.
    """
    if math.isinf(value):
        return 0.0
    if math.isinf(degrees) or degrees > 1e7:
        return math.erfc(value / math.sqrt(2)) / 2
    x = degrees / (degrees + value * value)
    return _incomplete_beta(degrees / 2, 0.5, x) / 2


def t_quantile(probability: float, degrees: float) -> float:
    """The value that Student's t stays below with a probability of 0.5 or more, below 1."""
    low, high = 0.0, 1.0
    while t_tail(high, degrees) > 1 - probability:
        low, high = high, high * 2
    while low < (middle := (low + high) / 2) < high:  # until no number lies between them
        if t_tail(middle, degrees) > 1 - probability:
            low = middle
        else:
            high = middle
    return middle


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function, 0 to 1."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly, that of the other tail
        return 1 - _incomplete_beta(b, a, 1 - x)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(log_front + a * math.log(x) + b * math.log1p(-x)) / a
    fraction, c, d = 1.0, 1.0, 0.0
    for step in range(1, 10_000):  # by Lentz's method
        half = step // 2
        if step % 2:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        else:
            term = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        d = 1 / (1 + term * d)
        c = 1 + term / c
        fraction *= c * d
        if abs(1 - c * d) < 1e-15:
            break
    return front / fraction
