"""gate.yaml, committed: each rule passes, fails, and is not known, whatever things are named."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stages.lib.core.errors import UserError
from tests.tools.compare import comparing
from tests.tools.compare.comparing import Repository, Run, few, wrong
from tools.compare import evidence, gate, sides

NAMES = ["短靴 与 凉鞋", "ankle boot", "a: b = 'c' # d"]


def runs(*counts: int) -> list[Run]:
    """Runs that misclassify so many images, with the names and one metric more."""
    metrics = {"平均 F1": 0.75}
    return [Run(run.wrong, names=NAMES, metrics=metrics) for run in few(*counts)]


@pytest.fixture
def made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Repository:
    """A repository whose base has 20, 21 and 22 of 60 images misclassified."""
    for name in comparing.environment():
        monkeypatch.delenv(name)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    repository = comparing.create(tmp_path / "project", capsys)
    first, *others = runs(20, 21, 22)
    repository.put(first)
    repository.train_more(*others)
    repository.commit("Base")
    monkeypatch.chdir(repository.path)
    return repository


def test_loss_and_calibration_are_means_of_the_trainings() -> None:
    actual = np.array([0, 1, 1])

    def training(confidence: float) -> SimpleNamespace:
        rows = [[confidence, 1 - confidence], *[[1 - confidence, confidence]] * 2]
        return SimpleNamespace(
            actual=actual, probabilities=np.array(rows), correct=np.full(3, confidence > 0.5)
        )

    trainings = {1: training(0.9), 2: training(0.6)}
    after = SimpleNamespace(trainings=trainings, metrics={"loss": 0.1, "accuracy": 1.0})
    of: Any = SimpleNamespace(after=after)
    assert gate._value(of, "loss") == pytest.approx(-(np.log(0.9) + np.log(0.6)) / 2)
    assert gate._value(of, "expected_calibration_error") == pytest.approx((0.1 + 0.4) / 2)
    del trainings[2]
    assert gate._value(of, "loss") == 0.1


def test_a_value_is_shown_on_its_side_of_the_limit() -> None:
    of: Any = SimpleNamespace(
        after=SimpleNamespace(trainings={}, metrics={"accuracy": 0.610169}, measures=[]),
        outdated="",
        reason="",
    )
    limits = {0.61017: "fail: 0.610169", 0.610169: "pass: 0.6102", 0.7: "fail: 0.6102"}
    for limit, says in limits.items():
        found = gate._limit(of, "accuracy", "at_least", limit)
        assert f"{found.status}: {found.says.rpartition(': ')[2]}" == says


def test_a_value_above_a_ceiling_is_shown_above_it() -> None:
    side = SimpleNamespace(trainings={}, metrics={"loss": 0.30001}, measures=[])
    found = gate._limit(SimpleNamespace(after=side, outdated=""), "loss", "at_most", 0.3)  # type: ignore[arg-type]
    assert (found.status, found.says) == ("fail", "loss must be at most 0.3: 0.30001")


def test_classes_of_long_names_are_told_apart() -> None:
    actual = np.array([0, 1, 1])
    training = SimpleNamespace(actual=actual, correct=actual < 1, num_classes=2)
    names = [f"{'x' * 60}{letter}" for letter in "AB"]
    side = SimpleNamespace(trainings={1: training}, metrics={}, measures=[], class_names=names)
    of: Any = SimpleNamespace(after=side, before=side, outdated="", reason="")
    assert [gate._value(of, f"recall:{name}") for name in names] == [1.0, 0.0]
    with pytest.raises(UserError, match="unknown class"):
        gate._value(of, f"recall:{'x' * 60}")


BETTER, WORSE, SAME = (2, 1, 2), (40, 41, 42), (21, 20, 22)


@pytest.mark.parametrize(
    ("rules", "counts", "code", "says"),
    [
        ("fail_if_worse: true", BETTER, 0, "must not be worse: better | pass"),
        ("fail_if_worse: true", SAME, 0, "must not be worse: no difference | pass"),
        ("fail_if_worse: true", WORSE, 1, "must not be worse: worse | **fail**"),
        ("fail_if_worse: true", (2,), 3, "must not be worse: unknown | **not known**"),
        ("fail_if_worse: false", WORSE, 0, ""),
        ("margin: 20", SAME, 0, "by 20 points or more: the difference lies between"),
        ("margin: 0.2", SAME, 3, "by 0.2 points or more: the difference lies between"),
        ("margin: 0.2", WORSE, 1, "by 0.2 points or more: the difference lies between"),
        # 2 + 1 + 2 of 180 are misclassified, of the first class 1 + 1 + 1 of 60
        ("at_least: {accuracy: 0.97}", BETTER, 0, "accuracy must be at least 0.97: 0.9722 | pass"),
        ("at_least: {accuracy: 0.98}", BETTER, 1, "at least 0.98: 0.9722 | **fail**"),
        ("at_least:\n  recall:短靴 与 凉鞋: 0.95", BETTER, 0, "recall:短靴 与 凉鞋 must be"),
        ("at_least:\n  recall:短靴 与 凉鞋: 0.951", BETTER, 1, "at least 0.951: 0.9500"),
        ("at_least:\n  recall:ankle boot: 0.9", BETTER, 0, "recall:ankle boot must be"),
        ("at_least:\n  \"recall:a: b = 'c' # d\": 1", BETTER, 0, "at least 1: 1.0000 | pass"),
        ("at_least:\n  平均 F1: 0.5", BETTER, 0, "平均 F1 must be at least 0.5: 0.7500 | pass"),
        ("at_least:\n  平均 F1: 0.8", BETTER, 1, "at least 0.8: 0.7500 | **fail**"),
        ("at_most: {loss: 1000}", BETTER, 0, "loss must be at most 1000: "),
        ("at_most: {loss: 0}", BETTER, 1, "loss must be at most 0: "),
        # one rule that fails outweighs one that is not known
        ("margin: 0.2\nat_least: {accuracy: 0.99}", SAME, 1, "| **not known** |"),
    ],
)
def test_a_rule_passes_fails_or_is_not_known(
    made: Repository,
    monkeypatch: pytest.MonkeyPatch,
    rules: str,
    counts: tuple[int, ...],
    code: int,
    says: str,
) -> None:
    comparing.read_once(("rules", counts), monkeypatch)
    first, *others = runs(*counts)
    first.train = {"epochs": 4}
    made.put(first)
    made.train_more(*others)
    Path("gate.yaml").write_text(rules + "\n", encoding="utf-8")
    made.commit("Gate")
    found = made.compare("--no-images", "--gate", "HEAD~1")
    assert found.code == code, found.out + found.err
    assert says in found.report
    assert ("Gate" in found.report) == bool(says)


@pytest.mark.parametrize("rule", ["fail_if_worse: true", "margin: 60", "at_least: {accuracy: 0}"])
def test_nothing_is_known_of_results_that_are_out_of_date(
    made: Repository, monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    comparing.read_once("out of date", monkeypatch)
    params = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(params.replace("epochs: 5", "epochs: 9"), encoding="utf-8")
    Path("gate.yaml").write_text(rule, encoding="utf-8")
    found = made.compare("--no-images", "--gate", "HEAD")
    assert found.code == 3
    assert "out of date" in found.report


def test_one_training_a_side_that_differs_is_not_known(made: Repository) -> None:
    made.drop_cache()
    for name in ("reports/evaluate/predictions.csv", "data/normalized/test.npz"):
        made.put_cached(name)
    made.put(Run(wrong(0, 50), names=NAMES))
    Path("gate.yaml").write_text("fail_if_worse: true\nmargin: 1\n", encoding="utf-8")
    found = made.compare("--no-images", "--gate", "HEAD")
    assert found.code == 3
    assert "must not be worse: unknown | **not known**" in found.report
    assert "by the test images alone, one training a side | **not known**" in found.report


def test_one_training_against_several_is_not_known() -> None:
    tables = np.ones((1, 60)), np.zeros((3, 60))
    of: Any = SimpleNamespace(
        evidence={"accuracy": evidence.weigh(*tables)},
        outdated="",
        reason="",
        same_predictions=False,
    )
    found = gate._margin(of, 1.0)
    assert found.status == "not known"
    assert found.says.endswith(" points, one training on one side")


def test_without_the_option_the_file_is_not_asked(made: Repository) -> None:
    Path("gate.yaml").write_text("at_least: {accuracy: 1}", encoding="utf-8")
    assert made.compare("--no-images", "HEAD").code == 0


def test_an_option_replaces_a_rule_of_the_file(
    made: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("gate.yaml").write_text("at_least: {accuracy: 1}", encoding="utf-8")
    options = ("--no-images", "--gate", "HEAD", "--at-least", "accuracy=0.6")
    comparing.read_once("an option", monkeypatch)
    assert made.compare(*options, "recall:ankle boot=0.5").code == 0
    assert made.compare(*options, "recall:a: b = 'c' # d=1").code == 1


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("margins: 0.2", "gate.yaml: margins: unknown key; known are fail_if_worse, margin"),
        ("margin: much", "gate.yaml: margin: expected a number of 0 or more, found much"),
        ("margin: -1", "gate.yaml: margin: expected a number of 0 or more, found -1"),
        ("fail_if_worse: 1", "gate.yaml: fail_if_worse: expected true or false, found 1"),
        ("at_least: 0.9", "gate.yaml: at_least: expected a number by metric, found 0.9"),
        ("at_least: 0", "gate.yaml: at_least: expected a number by metric, found 0"),
        ("at_most: false", "gate.yaml: at_most: expected a number by metric, found False"),
        ("at_most: [loss]", "gate.yaml: at_most: expected a number by metric, found ['loss']"),
        ("at_least: {loss: 0.5}", "found one of which lower is, so that bad models would pass"),
        ("at_least: {recall:cow: 1}", "recall:cow: unknown class; known are 短靴 与 凉鞋, ankle"),
        ("at_least: {acuracy: 1}", "acuracy: unknown metric; known are"),
        ("at_least: [", "gate.yaml"),
    ],
)
def test_a_mistake_in_the_file_is_an_error(
    made: Repository, monkeypatch: pytest.MonkeyPatch, rules: str, message: str
) -> None:
    comparing.read_once("a mistake", monkeypatch)
    Path("gate.yaml").write_text(rules, encoding="utf-8")
    assert message in made.fails("--no-images", "--gate", "HEAD")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected labels from 0, found none or negative ones"),
        ("actual,predicted\n0,-1\n", "expected labels from 0, found none or negative ones"),
        ("actual,wrong\n0,1\n", "expected labels in actual and predicted"),
        ("actual,predicted\n0,x\n", "expected labels in actual and predicted"),
        (
            "actual,predicted,probability_0,probability_1\n0,1,0.5,much\n",
            "expected numbers in probability_0 and so on",
        ),
    ],
)
def test_predictions_that_are_none_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(text or "actual,predicted\n", encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(message)):
        sides.read_labels(path)
    path.write_text("actual,predicted,probability_0\n0,1,0.5\n", encoding="utf-8")
    labels = sides.read_labels(path)  # of two classes, with one probability
    assert (labels.num_classes, labels.probabilities) == (2, None)
