"""The result of a comparison for machines."""

import math
from collections.abc import Mapping
from typing import Any

from tools.compare import markdown_report
from tools.compare.accuracy import Test
from tools.compare.comparison import ABSENT, Comparison, class_name
from tools.compare.evidence import Evidence
from tools.compare.revisions import Base, WorkTree
from tools.compare.sides import Unknown


def record(of: Comparison, base: Base, tree: WorkTree, status: int) -> dict[str, Any]:
    """The comparison as JSON values.

    What is not known is null, and ``unknown`` holds the reason under the same name.

    Args:
        of: What was compared.
        base: The revision.
        tree: The state of the work tree.
        status: The exit status.
    """
    parts = {
        "metrics before": of.before.metrics,
        "metrics after": of.after.metrics,
        "accuracy": of.test,
        "classes": of.classes,
        "stages": of.stages,
        **{f"changes of {file}": values for file, values in of.changed.items()},
    }
    return {
        "verdict": of.verdict,
        "headline": markdown_report.headline(of),
        "reason": of.reason or None,
        "exit_status": status,
        "before": {"commit": base.commit, "how": base.how, "metrics": _known(of.before.metrics)},
        "after": {
            "commit": tree.commit,
            "branch": tree.branch or None,
            "uncommitted_changes": tree.dirty,
            "metrics": _known(of.after.metrics),
        },
        "same_test_images": of.comparable,
        "accuracy": None if isinstance(of.test, Unknown) else _test(of.test),
        "trainings": {
            "before": list(of.before.trainings),
            "after": list(of.after.trainings),
        },
        "evidence": {name: _evidence(each) for name, each in of.evidence.items()},
        "classes": None if isinstance(of.classes, Unknown) else _classes(of),
        "changes": {file: _changes(values) for file, values in of.changed.items()},
        "stages": None if isinstance(of.stages, Unknown) else _stages(of),
        "warnings": of.warnings,
        "unknown": {name: part.reason for name, part in parts.items() if isinstance(part, Unknown)},
    }


def _known(found: object) -> object:
    return None if isinstance(found, Unknown) else found


def _test(test: Test) -> dict[str, Any]:
    return {
        "paired": test.fixed is not None,
        "test": "McNemar, exact" if test.fixed is not None else "Fisher, exact",
        "p_value": test.p_value,
        "difference": test.difference,
        "interval_95": [test.low, test.high],
        "images": list(test.images),
        "correct": list(test.correct),
        "fixed": test.fixed,
        "broken": test.broken,
    }


def _evidence(each: Evidence) -> dict[str, Any]:
    finite = [limit if math.isfinite(limit) else None for limit in (each.low, each.high)]
    return {
        "means": list(each.means),
        "trainings": list(each.trainings),
        "both_chances": each.both_chances,
        "difference": each.difference,
        "interval_95": finite,
        "p_value": each.p_value,
        "verdict": each.verdict(),
    }


def _classes(of: Comparison) -> list[dict[str, Any]]:
    if isinstance(of.classes, Unknown):
        return []
    return [
        {
            "label": each.label,
            "name": class_name(of, each.label),
            "verdict": each.verdict,
            "corrected_p_value": each.corrected,
            **_test(each.test),
            "tested_p_value": each.p_value,
            "all_trainings": _evidence(each.evidence),
        }
        for each in of.classes
    ]


def _changes(values: Mapping[str, tuple[object, object]] | Unknown) -> dict[str, Any] | None:
    """Before and after by key; a side that lacks the key is left out."""
    if isinstance(values, Unknown):
        return None
    return {
        key: {
            when: value
            for when, value in zip(("before", "after"), pair, strict=True)
            if value is not ABSENT
        }
        for key, pair in values.items()
    }


def _stages(of: Comparison) -> list[dict[str, Any]]:
    if isinstance(of.stages, Unknown):
        return []
    return [
        {"stage": each.stage, "state": each.state, "because_of": each.causes} for each in of.stages
    ]
