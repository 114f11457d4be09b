"""What lets a comparison pass, fail, or be not known: options, or the file gate.yaml.

``gate.yaml`` lies beside params.yaml and is committed:

    fail_if_worse: true
    margin: 0.2            # points of accuracy that may be lost
    at_least:              # floors of the later side, as proportions
      accuracy: 0.97
      recall:Shirt: 0.7
    at_most:               # ceilings, of metrics of which less is better
      loss: 0.3
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stages.lib.core import config
from stages.lib.core.errors import UserError
from stages.lib.metrics import METRICS
from tools.compare import scores
from tools.compare.comparison import Comparison, full_name
from tools.compare.sides import Measure, Unknown

FILE = "gate.yaml"
_KEYS = ("fail_if_worse", "margin", "at_least", "at_most")

Status = Literal["pass", "fail", "not known"]
Bound = Literal["at_least", "at_most"]
_ASKS = {"at_least": "higher", "at_most": "lower"}


@dataclass(frozen=True)
class Rules:
    """What is asked of a comparison.

    Attributes:
        fail_if_worse: Whether a worse accuracy fails.
        margin: Points of accuracy that may be lost, shown by the interval; None if not asked.
        at_least: Floors by ``accuracy``, any other metric of the test split, or ``recall:CLASS``.
        at_most: Ceilings, likewise.
    """

    fail_if_worse: bool = False
    margin: float | None = None
    at_least: Mapping[str, float] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """What became of one rule, with the numbers."""

    status: Status
    says: str


def read(folder: Path = Path()) -> Rules:
    """The rules of gate.yaml; none where there is no such file.

    Raises:
        UserError: It holds something else.
    """
    path = folder / FILE
    if not path.is_file():
        return Rules()
    content = config.read(str(path))
    for key in content:
        if key not in _KEYS:
            raise UserError(f"{FILE}: {key}: unknown key; known are {', '.join(_KEYS)}.")
    worse, margin = content.get("fail_if_worse", False), content.get("margin")
    if not isinstance(worse, bool):
        raise UserError(f"{FILE}: fail_if_worse: expected true or false, found {worse}.")
    return Rules(
        worse,
        None if margin is None else number(margin, f"{FILE}: margin"),
        _limits(content, "at_least"),
        _limits(content, "at_most"),
    )


def _limits(content: dict[str, Any], bound: Bound) -> dict[str, float]:
    limits = {} if content.get(bound) is None else content[bound]
    if not isinstance(limits, dict):
        raise UserError(f"{FILE}: {bound}: expected a number by metric, found {limits}.")
    return {str(name): number(value, f"{FILE}: {bound}: {name}") for name, value in limits.items()}


def number(value: object, where: str) -> float:
    """A finite number, 0 or more.

    Raises:
        UserError: It is something else.
    """
    try:
        parsed = float(str(value)) if not isinstance(value, bool) else float("nan")
    except ValueError:
        parsed = float("nan")
    if not (np.isfinite(parsed) and parsed >= 0):
        raise UserError(f"{where}: expected a number of 0 or more, found {value}.")
    return parsed


def check(of: Comparison, rules: Rules) -> list[Check]:
    """What becomes of every rule.

    Raises:
        UserError: A limit names no metric and no class, or is none that a good model could keep.
    """
    checks = []
    if rules.fail_if_worse:
        checks.append(_worse(of))
    if rules.margin is not None:
        checks.append(_margin(of, rules.margin))
    checks += [_limit(of, name, "at_least", value) for name, value in rules.at_least.items()]
    checks += [_limit(of, name, "at_most", value) for name, value in rules.at_most.items()]
    return checks


def overall(checks: list[Check]) -> Status:
    """Fail if a rule fails, else not known if one is not known, else pass."""
    statuses = {each.status for each in checks}
    return "fail" if "fail" in statuses else "not known" if "not known" in statuses else "pass"


def _worse(of: Comparison) -> Check:
    status: Status = {"worse": "fail", "unknown": "not known"}.get(of.verdict, "pass")  # type: ignore[assignment]
    return Check(status, f"accuracy must not be worse: {of.verdict}")


def _margin(of: Comparison, margin: float) -> Check:
    asked = f"accuracy must not fall by {margin:g} points or more"
    weighed = of.evidence.get(scores.ACCURACY)
    if of.outdated or weighed is None:
        return Check("not known", f"{asked}: {of.reason or 'predictions are missing'}")
    if of.same_predictions:
        return Check("pass", f"{asked}: every image is predicted as before")
    low, high = 100 * weighed.low, 100 * weighed.high
    shown = f"{asked}: the difference lies between {low:+.2f} and {high:+.2f} points"
    if not weighed.both_chances:
        few = "one training on one side"
        if weighed.trainings == (1, 1):
            few = "by the test images alone, one training a side"
        return Check("not known", f"{shown}, {few}")
    if low > -margin:
        return Check("pass", shown)
    return Check("fail" if high <= -margin else "not known", shown)


def _limit(of: Comparison, name: str, bound: Bound, limit: float) -> Check:
    value = _value(of, name)
    _refuse_senseless(of, name, bound, limit)
    asked = f"{name} must be {bound.replace('_', ' ')} {limit:g}"
    if isinstance(value, Unknown) or of.outdated:
        why = value.reason if isinstance(value, Unknown) else of.reason
        return Check("not known", f"{asked}: {why}")

    def keeps(number: float) -> bool:
        return number >= limit if bound == "at_least" else number <= limit

    digits = next(n for n in range(4, 18) if keeps(round(value, n)) == keeps(value))
    return Check("pass" if keeps(value) else "fail", f"{asked}: {value:.{digits}f}")


def _refuse_senseless(of: Comparison, name: str, bound: Bound, limit: float) -> None:
    """Refuses a limit on the wrong side, which bad models would keep, and one that none can."""
    own = [Measure(each.name, each.label, each.unit, each.better) for each in METRICS]
    recall = Measure(name, name, "proportion", "higher")
    known = {each.metric: each for each in [*own, *of.after.measures]}
    measure = recall if name.startswith("recall:") else known.get(name, Measure(name, name))
    if measure.better and measure.better != _ASKS[bound]:
        other = "at_most" if bound == "at_least" else "at_least"
        raise UserError(
            f"{bound}: {name}: expected a metric of which {_ASKS[bound]} is better, found one of "
            f"which {measure.better} is, so that bad models would pass.\n"
            f"Ask for --{other.replace('_', '-')} {name}={limit:g}, or {other} in {FILE}."
        )
    if measure.unit == "proportion" and limit > 1:
        raise UserError(
            f"{bound}: {name}: expected a proportion from 0 to 1, found {limit:g}.\n"
            "Write 0.97 for 97 %, say."
        )


def _value(of: Comparison, name: str) -> float | Unknown:
    """A metric of the later side, the mean of its trainings where predictions tell it."""
    metric, _, label = name.partition(":")
    trainings = list(of.after.trainings.values())
    if metric == "recall" and label:
        if not trainings:
            return Unknown("the predictions are not known")
        actual = trainings[0].actual
        names = [full_name(of, number) for number in range(trainings[0].num_classes)]
        if label not in names:
            raise UserError(f"recall:{label}: unknown class; known are {', '.join(names)}.")
        chosen = actual == names.index(label)
        if not chosen.any():
            return Unknown(f"no test image is of the class {label}")
        return float(scores.correct(trainings)[:, chosen].mean())
    if metric == scores.ACCURACY and trainings:
        return float(scores.correct(trainings).mean())
    tables = scores.by_metric(trainings) if len(trainings) > 1 else {}
    if name in tables:
        return float(tables[name].mean(axis=1).mean())
    if isinstance(of.after.metrics, Unknown):
        return Unknown(of.after.metrics.reason)
    if name not in of.after.metrics:
        known = ", ".join([*of.after.metrics, "recall:CLASS"])
        raise UserError(f"{name}: unknown metric; known are {known}.")
    return of.after.metrics[name]
