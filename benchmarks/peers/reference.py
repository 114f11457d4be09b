"""Writes what SciPy and statsmodels say where tools.compare has code of its own.

It goes to tests/tools/compare/reference.json. Neither is in the test environment, for Keras imports
SciPy wherever it is installed:

    python -m venv REFERENCE && REFERENCE/bin/pip install scipy statsmodels
    REFERENCE/bin/python benchmarks/peers/reference.py
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy
import statsmodels
import statsmodels.api
import statsmodels.formula.api as formula
from scipy import stats
from statsmodels.stats import contingency_tables, multitest, proportion

FILE = Path(__file__).parents[2] / "tests/tools/compare/reference.json"

TOTALS = [(50, 60, 58, 60), (352, 360, 345, 360), (8700, 10_000, 8790, 10_000), (1, 9, 7, 11)]
DISCORDANT = [(9, 1), (3, 14), (120, 95), (1, 0)]
P_VALUES = [
    [0.001, 0.02, 0.03, 0.04, 0.9],
    [0.012, 0.011, 0.013],
    [0.2, 0.0004, 0.05, 0.05, 0.6, 0.01, 0.008],
]
TAILS = [(2.1, 4.37), (0.4, 2.02), (12.0, 3.5), (1.96, 9_876.5)]
LEVELS = [
    ([0.941, 0.952, 0.938], [0.961, 0.955, 0.958]),
    ([0.873, 0.886, 0.879, 0.881], [0.884, 0.891]),
    ([0.66, 0.71, 0.68, 0.69, 0.65], [0.72, 0.7, 0.76, 0.71, 0.75]),
]
PAIRS = [
    ([0.1, 0.7, 0.2, 0.9, 0.4, 0.3], [0.2, 0.6, 0.5, 1.3, 0.6, 0.8]),
    ([2, 4, 3, 7, 5, 5, 9, 1], [1, 4, 1, 6, 5, 3, 7, 2]),
    ([0.0, 0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0, 1.0]),
]


def tables() -> list[tuple[list[list[float]], list[list[float]]]]:
    """Scores of two sides, trainings x images, whose variance components are all above 0."""
    chosen = []
    for trainings, images, spread, seed in (
        ((3, 3), 24, 0.3, 1),
        ((4, 4), 16, 0.5, 2),
        ((3, 3), 30, 0.2, 3),
        ((5, 5), 12, 0.4, 4),
        ((2, 5), 20, 0.5, 5),
    ):
        rng = np.random.default_rng(seed)
        own = rng.normal(0, 1, images)
        sides = [
            np.round(
                rng.normal(0, spread, (count, 1))
                + own
                + rng.normal(at * 0.3, 0.4, images)
                + rng.normal(0, 0.3, (count, images)),
                3,
            ).tolist()
            for at, count in enumerate(trainings)
        ]
        chosen.append((sides[0], sides[1]))
    return chosen


def crossed(before: list[list[float]], after: list[list[float]]) -> dict[str, float]:
    """Standard error, degrees of freedom and p by two-way analyses of variance of each side."""
    trainings, images = [len(side) for side in (before, after)], len(before[0])
    of_trainings, of_cells = [], []
    for side in (before, after):
        frame = long(side)
        anova = formula.ols("score ~ C(training) + C(image)", frame).fit()
        squares = statsmodels.api.stats.anova_lm(anova)
        mean = squares["sum_sq"] / squares["df"]
        of_trainings.append(mean["C(training)"] / images)
        of_cells.append(mean["Residual"] / images)
    if any(t < c for t, c in zip(of_trainings, of_cells, strict=True)):
        raise ValueError("expected trainings that vary more than their cells explain")
    means = [np.mean(side, axis=0) for side in (before, after)]
    paired = stats.ttest_rel(means[1], means[0])
    of_images = (np.mean(means[1] - means[0]) / paired.statistic) ** 2
    cells = sum(c / count for c, count in zip(of_cells, trainings, strict=True))
    if of_images <= cells:
        raise ValueError("expected images that vary more than their cells explain")
    parts = [t / count for t, count in zip(of_trainings, trainings, strict=True)]
    variance = sum(parts) + of_images - cells
    degrees = variance**2 / (
        sum(part**2 / (count - 1) for part, count in zip(parts, trainings, strict=True))
        + of_images**2 / (images - 1)
    )
    difference = float(np.mean(after) - np.mean(before))
    low, high = stats.t.interval(0.95, degrees, difference, math.sqrt(variance))
    p_value = 2 * stats.t.sf(abs(difference) / math.sqrt(variance), degrees)
    return {"degrees": degrees, "low": low, "high": high, "p_value": p_value}


def mixed(before: list[list[float]], after: list[list[float]]) -> float:
    """The standard error of the difference by a mixed model, fitted by REML."""
    frame = pd.concat([long(before).assign(side=0), long(after).assign(side=1)], ignore_index=True)
    frame["run"] = frame["side"].astype(str) + "-" + frame["training"].astype(str)
    frame["place"] = frame["side"].astype(str) + "-" + frame["image"].astype(str)
    parts = {"run": "0 + C(run)", "image": "0 + C(image)", "place": "0 + C(place)"}
    model = formula.mixedlm("score ~ side", frame, groups=np.ones(len(frame)), vc_formula=parts)
    return float(model.fit(reml=True, method="powell", maxiter=4000).bse["side"])


def long(side: list[list[float]]) -> pd.DataFrame:
    """A row a cell."""
    rows = [(t, i, score) for t, row in enumerate(side) for i, score in enumerate(row)]
    return pd.DataFrame(rows, columns=["training", "image", "score"])


def interval(found: Any) -> list[float]:
    """The limits of what a test of scipy's found."""
    limits = found.confidence_interval(0.95)
    return [limits.low, limits.high]


def main() -> None:
    """Writes the file."""
    wilson, newcombe, fisher = [], [], []
    for correct, images, later, others in TOTALS:
        wilson.append(list(proportion.proportion_confint(correct, images, method="wilson")))
        newcombe.append(
            list(
                proportion.confint_proportions_2indep(
                    later, others, correct, images, method="newcomb", compare="diff"
                )
            )
        )
        table = [[correct, images - correct], [later, others - later]]
        fisher.append(stats.fisher_exact(table).pvalue)
    welch = [stats.ttest_ind(two, one, equal_var=False) for one, two in LEVELS]
    paired = [stats.ttest_rel(two, one) for one, two in PAIRS]
    content = {
        "made by": f"scipy {scipy.__version__}, statsmodels {statsmodels.__version__}",
        "totals": TOTALS,
        "wilson": wilson,
        "newcombe": newcombe,
        "fisher": fisher,
        "discordant": DISCORDANT,
        "mcnemar": [
            contingency_tables.mcnemar([[5, a], [b, 7]], exact=True).pvalue for a, b in DISCORDANT
        ],
        "p_values": P_VALUES,
        "holm": [multitest.multipletests(each, method="holm")[1].tolist() for each in P_VALUES],
        "tails": TAILS,
        "t_tail": [stats.t.sf(*each) for each in TAILS],
        "t_quantile": [stats.t.ppf(0.975, degrees) for _, degrees in TAILS],
        "levels": LEVELS,
        "welch": [{"p_value": each.pvalue, "limits": interval(each)} for each in welch],
        "pairs": PAIRS,
        "paired_t": [{"p_value": each.pvalue, "limits": interval(each)} for each in paired],
        "tables": tables(),
        "crossed": [crossed(*pair) for pair in tables()],
        "mixed": [mixed(*pair) for pair in tables() if len(pair[0]) == len(pair[1])],
    }
    FILE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
