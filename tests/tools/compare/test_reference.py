"""The statistics against SciPy and statsmodels, as benchmarks/peers/reference.py wrote it down."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.lib.metrics import wilson_interval
from tools.compare import evidence, statistics

SAYS = json.loads(Path(__file__).with_name("reference.json").read_text(encoding="utf-8"))


def cases(given: str, expected: str) -> pytest.MarkDecorator:
    """Each example with what the other implementation says of it, at least three."""
    pairs = list(zip(SAYS[given], SAYS[expected], strict=True))
    assert len(pairs) >= 3
    return pytest.mark.parametrize(("given", "expected"), pairs)


@cases("totals", "wilson")
def test_wilson_interval(given: list[int], expected: list[float]) -> None:
    assert wilson_interval(given[0], given[1]) == pytest.approx(expected, abs=1e-9)


@cases("totals", "newcombe")
def test_interval_of_independent_proportions(given: list[int], expected: list[float]) -> None:
    assert statistics.independent_interval(*given) == pytest.approx(expected, abs=1e-9)


@cases("totals", "fisher")
def test_fisher(given: list[int], expected: float) -> None:
    assert statistics.fisher_exact(*given) == pytest.approx(expected, rel=1e-6)


@cases("discordant", "mcnemar")
def test_mcnemar(given: list[int], expected: float) -> None:
    assert statistics.mcnemar_exact(*given) == pytest.approx(expected, rel=1e-9)


@cases("p_values", "holm")
def test_holm(given: list[float], expected: list[float]) -> None:
    assert statistics.holm(given) == pytest.approx(expected)


@cases("tails", "t_tail")
def test_tail_of_students_t(given: list[float], expected: float) -> None:
    assert statistics.t_tail(*given) == pytest.approx(expected, rel=1e-8)


@cases("tails", "t_quantile")
def test_quantile_of_students_t(given: list[float], expected: float) -> None:
    assert statistics.t_quantile(0.975, given[1]) == pytest.approx(expected, rel=1e-8)


@cases("levels", "welch")
def test_where_only_the_trainings_vary_it_is_welchs_t(
    given: list[list[float]], expected: dict[str, Any]
) -> None:
    images = np.linspace(-1, 1, 50)
    before, after = (np.array(side)[:, None] + images for side in given)
    found = evidence.weigh(before, after)
    if found.high > expected["limits"][1] * (1 + 1e-6):
        assert len(before) != len(after)  # both sides taken to vary alike, which is wider
        return
    assert found.p_value == pytest.approx(expected["p_value"], rel=1e-6)
    assert [found.low, found.high] == pytest.approx(expected["limits"], rel=1e-6)


@cases("pairs", "paired_t")
def test_where_only_the_images_vary_it_is_the_paired_t(
    given: list[list[float]], expected: dict[str, object]
) -> None:
    found = evidence.weigh(np.array([given[0]]), np.array([given[1]]))
    assert found.p_value == pytest.approx(expected["p_value"], rel=1e-8)
    assert [found.low, found.high] == pytest.approx(expected["limits"], rel=1e-8)


@cases("tables", "crossed")
def test_both_chances_by_the_mean_squares_of_an_analysis_of_variance(
    given: list[list[list[float]]], expected: dict[str, float]
) -> None:
    found = evidence.weigh(np.array(given[0]), np.array(given[1]))
    assert found.degrees == pytest.approx(expected["degrees"], rel=1e-8)
    assert found.p_value == pytest.approx(expected["p_value"], rel=1e-7)
    limits = [expected["low"], expected["high"]]
    assert [found.low, found.high] == pytest.approx(limits, rel=1e-8)


def test_both_chances_by_a_mixed_model() -> None:
    balanced = [pair for pair in SAYS["tables"] if len(pair[0]) == len(pair[1])]
    assert len(balanced) == len(SAYS["mixed"]) >= 3
    for (before, after), expected in zip(balanced, SAYS["mixed"], strict=True):
        found = evidence.weigh(np.array(before), np.array(after))
        half = statistics.t_quantile(0.975, found.degrees)
        assert (found.high - found.low) / 2 / half == pytest.approx(expected, rel=2e-3)
        assert math.isfinite(expected)
