import hashlib
import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from stages.lib.reporting import palette
from tests.stages.lib.reporting import drawn
from tests.tools.compare import comparing
from tests.tools.compare.comparing import ACTUAL, REPORT, Compared, Repository, Run, few, wrong
from tools.compare import (
    accuracy,
    change_figures,
    comparison,
    evidence,
    markdown_report,
    scores,
    sections,
    sides,
)
from tools.compare.sides import Labels


@pytest.fixture
def made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Repository:
    """A repository on the branch ``change``; 10 of 60 images are wrong on main."""
    for name in comparing.environment():
        monkeypatch.delenv(name)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    repository = comparing.create(tmp_path / "project", capsys)
    repository.put(Run(wrong(0, 10)))
    repository.commit("Base")
    repository.git("checkout", "-q", "-b", "change")
    monkeypatch.chdir(repository.path)
    return repository


def test_no_difference_when_every_image_is_predicted_as_before(made: Repository) -> None:
    made.put(Run(wrong(0, 10), train={"epochs": 4}))
    found = made.compare("--fail-if-worse", "--no-images")
    assert found.code == 0
    assert "Spread over seeds" not in found.report  # one training a side
    assert "No difference: all 60 test images are predicted as before" in found.title
    assert "<code>train.epochs</code> | <code>5</code> | <code>4</code>" in found.report


def compared(made: Repository, before: list[Run], after: list[Run], *options: str) -> Compared:
    """The comparison of several trainings a side; the first is the side's own."""
    made.git("checkout", "-q", "main")
    made.put(before[0])
    made.train_more(*before[1:])
    base = made.commit("Base")
    made.git("checkout", "-q", "change")
    made.put(Run(after[0].wrong, train={"epochs": 4}))
    made.train_more(*after[1:])
    return made.compare("--json", "--no-images", base, *options)


def test_better_over_three_trainings_a_side(made: Repository) -> None:
    found = compared(made, few(20, 21, 22), few(2, 1, 2))
    # by hand: means 39 of 60 and 58 1/3 of 60
    assert found.json["verdict"] == "better"
    assert found.json["trainings"] == {"before": [1, 2, 3], "after": [1, 2, 3]}
    assert found.json["evidence"]["accuracy"]["difference"] == pytest.approx(58 / 180)
    assert "🟢 Better: mean test accuracy rose by 32.22 points, 65.00" in found.title
    assert "Mean of 3 trainings before and of 3 after" in found.report
    assert "3 and 3 trainings" in found.err


def test_the_spread_over_seeds_is_shown_where_it_is_known(made: Repository) -> None:
    report = compared(made, few(20, 22, 24), few(2)).report
    row = next(line for line in report.splitlines() if line.startswith("| Before | 3 |"))
    # by hand: 40, 38 and 36 of 60 are 66.67, 63.33 and 60.00 %, whose deviation is 10 / 3 points
    assert "| 63.33\N{NO-BREAK SPACE}%<br><sub>" in row
    assert "| 3.33 points |" in row
    assert "2: 63.33\N{NO-BREAK SPACE}%, 3: 60.00\N{NO-BREAK SPACE}% |" in row
    assert "| After | 1 |" not in report


def test_worse_over_trainings_fails_the_gate(made: Repository) -> None:
    found = compared(made, few(2, 1, 2), few(20, 21, 22), "--fail-if-worse")
    assert found.code == 1
    assert found.json["verdict"] == "worse"
    assert "🔴 Worse" in found.title
    assert "accuracy must not be worse: worse | **fail**" in found.report


def test_one_training_against_three_says_so(made: Repository) -> None:
    found = compared(made, few(30), few(2, 1, 2))
    assert found.json["trainings"] == {"before": [1], "after": [1, 2, 3]}
    assert found.json["verdict"] == "unknown"  # the one may vary far more than the three do
    assert "There is 1 before and 3 after, so how much another seed would move it" in found.report
    more = r"`python -m tools.seeds 3 [0-9a-f]{7,}` trains more"
    assert re.search(f"One training on a side: {more}", found.err)


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ({1: 0, 2: 1}, {1: 0, 2: 1}, True),
        ({1: 0, 2: 1}, {1: 0, 2: 2}, False),
        ({1: 0, 2: 1}, {1: 0, 3: 2}, True),
        ({1: 0, 2: 1}, {11: 0, 12: 30}, False),  # the first of each agree by chance
        ({1: 0}, {11: 0}, True),
        ({1: 0}, {11: 0, 12: 30}, False),
        ({1: 0}, {1: 1}, False),
    ],
)
def test_what_predicts_as_before(before: dict[int, int], after: dict[int, int], same: bool) -> None:
    def side(wrong: dict[int, int]) -> Any:
        made = {
            seed: Labels(np.zeros(40, np.int64), (np.arange(40) < count).astype(np.int64), 2, None)
            for seed, count in wrong.items()
        }
        return SimpleNamespace(labels=next(iter(made.values())), trainings=made)

    assert comparison._same_predictions(side(before), side(after)) is same


def test_a_project_below_gits_top_folder_has_its_predictions(made: Repository) -> None:
    (made.path / ".git").rename(made.path.parent / ".git")
    base = made.commit("Moved")
    made.put(Run(wrong(9, 2)))
    found = made.compare("--json", "--no-images", base)
    assert found.json["accuracy"]["paired"] is True
    assert found.json["accuracy"]["broken"] == [10]


def test_a_range_is_no_revision(made: Repository) -> None:
    made.commit()
    assert "main..change: unknown Git revision" in made.fails("main..change")


def test_subjects_are_cut_and_read_in_whatever_git_prints(made: Repository) -> None:
    made.git("config", "i18n.logOutputEncoding", "GBK")
    made.put(Run(wrong(0, 6)))
    made.commit("测试 " + "x" * 20_000)
    report = made.compare("--no-images", "HEAD").report
    assert f"| 测试 {'x' * 97} | 90.00" in report


def test_equal_predictions_do_not_hide_a_better_loss() -> None:
    tables = [np.full((3, 60), level) + np.arange(3)[:, None] / 1000 for level in (0.6, 0.3)]
    labels = Labels(np.zeros(60, np.int64), np.zeros(60, np.int64), 2, None)
    of: Any = SimpleNamespace(
        verdict="no difference",
        same_predictions=True,
        test=accuracy.paired(labels, labels, np.ones(60, np.bool_)),
        evidence={scores.LOSS: evidence.weigh(tables[0], tables[1], higher_is_better=False)},
    )
    said = "No difference: all 60 test images are predicted as before; loss better"
    assert markdown_report.headline(of) == said


def test_of_many_classes_those_of_the_smallest_p_are_shown() -> None:
    actual = np.repeat(np.arange(40), 20)
    before = actual.copy()
    for label in (37, 39):  # three of twenty are broken: p = 0.25, corrected 1 as of all others
        before[label * 20 : label * 20 + 3] = 0
    both = [[Labels(actual, predicted, 40, None)] for predicted in (actual, before)]
    of: Any = SimpleNamespace(
        same_predictions=False,
        classes=accuracy.by_class(*both),
        test=None,
        outdated="",
        before=SimpleNamespace(class_names=[]),
        after=SimpleNamespace(class_names=[f"name {label}" for label in range(40)]),
    )
    shown = sections.classes(of)
    assert "name 37" in shown
    assert "name 39" in shown
    assert "And 10 more classes, none with a smaller p." in shown


def test_trainings_that_vary_more_than_they_differ_are_no_difference(made: Repository) -> None:
    found = compared(made, few(2, 16, 9), few(12, 1, 6), "--fail-if-worse")
    assert found.code == 0
    assert "⚪ No difference beyond noise: mean test accuracy" in found.title
    assert "so not shown either way" in found.title
    assert "🔴" not in found.report
    assert "🟢" not in found.report


def test_a_training_of_another_configuration_is_none_of_this_side(made: Repository) -> None:
    made.train_more(*few(11, 12))
    made.commit("Base")
    made.put(Run(wrong(0, 10), train={"epochs": 4}))
    found = made.compare("--json", "--no-images", "HEAD")
    assert found.json["trainings"] == {"before": [1, 2, 3], "after": [1]}


def test_a_training_whose_predictions_are_gone_is_named(made: Repository) -> None:
    made.train_more(*few(11, 12))
    gone = hashlib.md5(predictions(made, Run(wrong(0, 12)))).hexdigest()
    (made.path / ".dvc/cache/files/md5" / gone[:2] / gone[2:]).unlink()
    found = made.compare("--json", "--no-images", "HEAD")
    assert found.json["trainings"]["after"] == [1, 2]
    assert "with seed 3 are left out: DVC's cache has no usable predictions" in found.err


def predictions(made: Repository, run: Run) -> bytes:
    """The table that a run's evaluation writes."""
    path = made.path / "reports/evaluate/predictions.csv"
    kept = path.read_bytes()
    made.write_outputs(run)
    content = path.read_bytes()
    path.write_bytes(kept)
    made.write_outputs(Run(wrong(0, 10)))
    return content


def test_a_run_cache_that_was_removed_leaves_one_training_a_side(made: Repository) -> None:
    before, after = few(20, 21, 22), few(2, 1, 2)
    assert compared(made, before, after).json["verdict"] == "better"
    shutil.rmtree(made.path / ".dvc/cache/runs")
    found = made.compare("--json", "--no-images", "main", "--fail-if-worse")
    assert found.code == 3
    assert found.json["trainings"] == {"before": [1], "after": [1]}
    assert "whether a second training would agree is not known" in found.title
    assert "There is one training a side" in found.report
    assert "The last column has the 95 % interval of Student's t" in found.report


def test_predictions_of_other_seeds_that_were_dropped_are_named_on_both_sides(
    made: Repository,
) -> None:
    compared(made, few(20, 21, 22), few(2, 1, 3))
    for run in few(21, 22, 1, 3):
        digest = hashlib.md5(predictions(made, run)).hexdigest()
        (made.path / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).unlink()
    made.put(Run(wrong(0, 2), train={"epochs": 4}))
    found = made.compare("--json", "--no-images", "main")
    assert found.json["verdict"] == "unknown"
    assert "Trainings of the work tree with seed 2, 3 are left out" in found.err
    base = made.git("rev-parse", "main")[:7]
    assert f"Trainings of {base} with seed 2, 3 are left out" in found.report


def test_where_no_cache_has_the_recorded_predictions_those_made_again_here_count(
    made: Repository,
) -> None:
    made.train_more(*few(20, 21), first=1)  # of seed 1 too, with other bits than dvc.lock has
    base = made.commit("Base")
    recorded = (made.path / "reports/evaluate/predictions.csv").read_bytes()
    digest = hashlib.md5(recorded).hexdigest()
    (made.path / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).unlink(missing_ok=True)
    made.put(Run(wrong(0, 2), train={"epochs": 4}))
    made.train_more(*few(1, 2))
    found = made.compare("--json", "--no-images", base)
    assert found.json["trainings"] == {"before": [1, 2], "after": [1, 2, 3]}
    assert found.json["verdict"] == "better"
    assert f"The predictions of {base[:7]} are those of its training made again here" in found.err
    assert "contradict each other" not in found.err  # though the recorded metrics are of other bits


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a", 1], ["a", "1"]),
        ({"en": ["a"], "zh": ["b"]}, ["a"]),
        ({"zh": ["b"]}, []),
        ({"en": "abc"}, []),
        ({"en": 5}, []),
        ("abc", []),
        (None, []),
    ],
)
def test_class_names_of_an_unchecked_catalogue_are_names_or_none(
    given: object, expected: list[str]
) -> None:
    assert sides._class_names({"class_names": given}) == expected


def test_another_test_set_is_no_comparison_however_many_trainings(made: Repository) -> None:
    other = [Run(run.wrong, dataset="birds", train={"epochs": 4}) for run in few(2, 1, 2)]
    made.train_more(*few(20, 21))
    base = made.commit("Base")
    made.put(other[0])
    made.train_more(*other[1:])
    found = made.compare("--json", "--no-images", base, "--fail-if-worse", "--margin", "1")
    assert found.code == 3
    assert found.json["evidence"] == {}
    assert "the data set changed from pets to birds, and with it the test images" in found.title
    assert "by 1 points or more: the data set changed from pets to birds" in found.report


def test_a_damaged_record_of_a_run_is_left_out(made: Repository) -> None:
    made.train_more(*few(11))
    for path in (made.path / ".dvc/cache/runs").glob("*/*/*"):
        path.write_text("models/model.keras: [", encoding="utf-8")
    found = made.compare("--json", "--no-images", "HEAD")
    assert found.json["trainings"]["after"] == [1]


def test_one_training_a_side_earns_no_better(made: Repository) -> None:
    made.put(Run(wrong(9, 2)))  # 9 fixed, 1 broken: p = 2 (1 + 10) / 2^10
    found = made.compare("--json", "--no-images", "--fail-if-worse")
    assert found.code == 3
    assert found.json["verdict"] == "unknown"
    assert "🟡 Better or worse is not known: test accuracy 83.33" in found.title
    assert "more than the choice of test images explains; whether a second training" in found.title
    assert "<code>python -m tools.seeds 3</code>" in found.report
    assert "9 were fixed and 1 broken" in found.report
    assert "🟢" not in found.report
    assert found.json["accuracy"]["p_value"] == pytest.approx(22 / 1024)
    assert found.json["accuracy"]["fixed"] == list(range(9))
    assert found.json["accuracy"]["broken"] == [10]
    assert found.json["accuracy"]["paired"] is True


def test_the_loss_speaks_where_the_accuracy_does_not(made: Repository) -> None:
    made.put(Run(wrong(5, 10)))
    path = made.path / "reports/evaluate/predictions.csv"
    sure = path.read_text(encoding="utf-8").replace("0.1", "0.01").replace("0.8", "0.98")
    path.write_text(sure, encoding="utf-8", newline="\n")
    found = made.compare("--json", "--no-images")
    # by hand: 50 images lose log(0.98 / 0.8), 10 gain log(0.1 / 0.01)
    expected = (10 * math.log(10) - 50 * math.log(0.98 / 0.8)) / 60
    assert found.json["evidence"]["loss"]["difference"] == pytest.approx(expected)


def test_calibration_by_image_sums_to_the_calibration_error() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])
    labels = Labels(np.array([0, 1, 0, 1]), probabilities.argmax(axis=1), 2, probabilities)
    # by hand: bin of 0.9: |0.9 - 0.5|; of 0.6: |0.6 - 1|; of 0.7: |0.7 - 1|
    expected = (2 * 0.4 + 0.4 + 0.3) / 4
    assert scores.by_metric([labels])["expected_calibration_error"].mean() == pytest.approx(
        expected
    )


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--margin", "60"], 0, "must not fall by 60 points or more"),
        (["--margin", "1"], 1, "must not fall by 1 points or more"),
        (["--margin", "32"], 3, "must not fall by 32 points or more"),
        (["--at-least", "accuracy=0.6"], 0, "accuracy must be at least 0.6: 0.6500"),
        (["--at-least", "accuracy=0.66", "recall:owl=0.1"], 1, "recall:owl must be at least"),
        (["--at-most", "loss=100"], 0, "loss must be at most 100: "),
        (["--at-most", "loss=0.001"], 1, "loss must be at most 0.001: "),
        (["--at-least", "images=60", "--at-most", "images=60"], 0, "images must be at most 60: 60"),
        (["--gate"], 0, "Gate: gate.yaml is missing or asks for nothing."),
        (["--gate", "--margin", "60"], 0, "Gate: gate.yaml is missing or asks for nothing."),
        # below: limits that only a bad model keeps, or that no model can
        (["--at-least", "loss=0.1"], 1, "Ask for --at-most loss=0.1, or at_most in gate.yaml."),
        (["--at-most", "recall:owl=0.1"], 1, "Ask for --at-least recall:owl=0.1, or at_least in"),
        (["--at-least", "accuracy=97"], 1, "from 0 to 1, found 97.\nWrite 0.97 for 97 %, say."),
    ],
)
def test_the_gate_passes_fails_or_does_not_know(
    made: Repository, monkeypatch: pytest.MonkeyPatch, options: list[str], code: int, says: str
) -> None:
    comparing.read_once("gate", monkeypatch)
    found = compared(made, few(2, 1, 2), few(20, 21, 22), *options)
    assert found.code == code, found.err
    assert says in found.err


def test_the_history_of_the_accuracy_is_shown(made: Repository) -> None:
    made.put(Run(wrong(0, 6)))
    first = made.commit("Fewer | mistakes")
    made.put(Run(wrong(0, 3)))
    second = made.commit("Fewer still")
    made.put(Run(wrong(0, 2)))
    report = made.compare("--no-images", "HEAD").report
    part = report[report.index("Accuracy in the history: the last 3 results") :]
    assert part.index(second[:7]) < part.index(first[:7])
    assert "Fewer &#124; mistakes | 90.00\N{NO-BREAK SPACE}%<br><sub>" in part


def test_metrics_are_shown_as_their_table_says_and_new_ones_are_new(made: Repository) -> None:
    made.put(Run(wrong(0, 11)))
    path = Path("reports/evaluate/metrics.json")
    values = json.loads(path.read_text(encoding="utf-8")) | {"top5": 0.5, "odd": 2.0}
    path.write_text(json.dumps(values), encoding="utf-8")
    Path("reports/evaluate/metrics.csv").write_text(
        "metric,label,unit,better\ntop5,Among five,proportion,higher\nloss,Loss,nats,lower\n",
        encoding="utf-8",
    )
    report = made.compare("--no-images").report
    assert "| Among five | – | 50.00\N{NO-BREAK SPACE}% | new |" in report
    assert "| <code>odd</code> | – | 2.0000 | new |" in report
    assert report.index("Among five") < report.index("| Loss |")


def test_no_difference_beyond_noise_when_as_many_are_fixed_as_broken(made: Repository) -> None:
    made.put(Run(wrong(5, 10)))
    found = made.compare("--fail-if-worse", "--no-images")
    assert found.code == 0
    assert "⚪ No difference beyond noise" in found.title
    assert "5 were fixed and 5 broken" in found.report
    assert "probability 1.000" in found.report


def test_what_changed_in_a_long_list_is_seen(made: Repository) -> None:
    names = [f"a long name of number {n}" for n in range(3)]
    made.put(Run(wrong(0, 10), names=names))
    base = made.commit()
    made.put(Run(wrong(0, 10), names=[*names[:2], "owl"]))
    report = made.compare("--no-images", base).report
    change = "<code>a long name of number 2</code> | <code>owl</code>"
    assert f"<code>class&#95;names&#91;2&#93;</code> | {change}" in report
    assert "number 1</code> |" not in report


def test_classes_are_corrected_for_looking_at_many(made: Repository) -> None:
    owls = [index for index, label in enumerate(ACTUAL) if label == 2]
    cats = [index for index, label in enumerate(ACTUAL) if label == 0]
    made.put(Run({**wrong(0, 10), **dict.fromkeys(owls, 0), **dict.fromkeys(cats[4:10], 1)}))
    classes = {each["name"]: each for each in made.compare("--json").json["classes"]}
    assert classes["owl"]["p_value"] == pytest.approx(2 / 2**17)
    assert classes["owl"]["corrected_p_value"] == pytest.approx(3 * 2 / 2**17)
    assert classes["owl"]["verdict"] == "unknown"  # one training a side
    assert classes["cat"]["p_value"] == pytest.approx(2 / 2**6)  # 0.031 alone
    assert classes["cat"]["corrected_p_value"] == pytest.approx(4 / 2**6)
    assert classes["cat"]["verdict"] == "no difference"
    assert classes["dog"]["verdict"] == "no difference"


def test_a_changed_data_set_is_no_comparison(made: Repository) -> None:
    made.put(Run(dataset="birds"))
    found = made.compare("--fail-if-worse")
    assert found.code == 3
    assert "🟡 Better or worse is not known: the data set changed from pets to birds" in found.title
    assert "| other images |" in found.report
    assert "No difference" not in found.title
    assert "<code>title</code> | <code>Pets</code> | <code>Birds</code>" in found.report


def test_other_weights_to_start_from_are_shown_with_their_entry(made: Repository) -> None:
    made.put(Run(wrong(0, 10), weights="old"))
    base = made.commit()
    made.put(Run(wrong(0, 10), weights="new"))
    report = made.compare("--no-images", base).report
    assert "<code>model.weights</code> | <code>old</code> | <code>new</code>" in report
    assert (
        "<code>title</code> | <code>The old weights</code> | <code>The new weights</code>" in report
    )


def test_a_side_from_before_there_were_weights_is_compared(made: Repository) -> None:
    made.put(Run(wrong(0, 10), weights="none"))
    report = made.compare("--no-images").report
    assert "<code>model.weights</code> | – | <code>none</code>" in report
    assert "weights.yaml: " not in report


def test_other_labels_are_no_comparison(made: Repository) -> None:
    made.put(Run(actual=ACTUAL[::-1]))
    found = made.compare("--fail-if-worse", "--no-images")
    assert found.code == 3
    assert "the test images changed: their labels are not the same" in found.title


def test_other_test_images_of_the_same_labels_are_no_comparison(made: Repository) -> None:
    made.put(Run(wrong(0, 10), shade=0.25))
    lock = yaml.safe_load(Path("dvc.lock").read_text(encoding="utf-8"))
    Path("data/raw").write_text("other files", encoding="utf-8")
    entry = made.hashed("data/raw")
    lock["stages"]["prepare"]["outs"][0] = lock["stages"]["train"]["deps"][0] = entry
    Path("dvc.lock").write_text(yaml.safe_dump(lock), encoding="utf-8")
    found = made.compare("--fail-if-worse", "--no-images")
    assert found.code == 3
    assert "the test images changed: data/normalized/test.npz has other content" in found.title


def test_the_same_images_prepared_in_another_way_are_paired(made: Repository) -> None:
    made.put(Run(wrong(9, 2), shade=0.25))
    found = made.compare("--json", "--no-images")
    assert found.json["accuracy"]["paired"] is True
    assert "they were prepared in another way" in found.report


def test_other_images_of_equal_labels_are_not_called_the_same(made: Repository) -> None:
    made.put(Run(wrong(9, 2), shade=0.25))
    with Path("params.yaml").open("a", encoding="utf-8") as stream:
        stream.write("normalize: {seed: 5}\n")
    found = made.compare("--json", "--no-images")
    assert found.json["verdict"] == "unknown"
    assert "the test images changed: data/normalized/test.npz has other content" in found.title


def test_without_the_base_s_predictions_images_are_not_said_to_have_changed(
    made: Repository,
) -> None:
    made.drop_cache()
    made.put(Run(wrong(9, 2), shade=0.25))
    title = made.compare("--no-images").title
    base = made.git("rev-parse", "main")[:7]
    assert "whether the test images are the same ones, prepared in another way, is not" in title
    assert f"python -m tools.seeds 3 {base} makes them again" in title


def test_without_the_earlier_predictions_the_totals_are_compared(made: Repository) -> None:
    made.put(Run(wrong(0, 40)))
    made.drop_cache()
    made.put_cached("reports/evaluate/predictions.csv")
    found = made.compare("--json", "--no-images", "--fail-if-worse")
    assert found.code == 3
    assert found.json["verdict"] == "unknown"
    assert found.json["accuracy"]["paired"] is False
    assert found.json["accuracy"]["correct"] == [50, 20]
    assert "Compared by totals alone" in found.report
    assert "neither in DVC's cache nor in a remote" in found.report
    assert re.search(r"python -m tools.seeds 3 \w{7} makes them again", found.report)
    assert "🟢 Better: test accuracy" not in found.title
    assert "mean" not in found.title
    assert "By class: not known" in found.report


def test_the_remote_is_asked_for_the_earlier_predictions(made: Repository, tmp_path: Path) -> None:
    made.put(Run(wrong(9, 2)))
    shutil.move(made.path / ".dvc/cache", tmp_path / "remote")
    with Path(".dvc/config").open("a", encoding="utf-8") as stream:
        stream.write(f"    remote = store\n['remote \"store\"']\n    url = {tmp_path / 'remote'}\n")
    found = made.compare("--json", "--no-images")
    assert found.json["accuracy"]["paired"] is True


def test_predictions_in_git_need_no_cache(made: Repository) -> None:
    Path(".gitignore").write_text("/data\n/models\n/reports/comparison\n", encoding="utf-8")
    base = made.commit("Keep the predictions in Git")
    made.put(Run(wrong(9, 2)))
    made.drop_cache()
    assert made.compare("--json", "--no-images", base).json["accuracy"]["paired"] is True


def test_results_that_are_out_of_date_are_not_judged(made: Repository) -> None:
    made.put(Run(wrong(9, 2)))
    params = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(params.replace("epochs: 5", "epochs: 9"), encoding="utf-8")
    found = made.compare("--fail-if-worse", "--no-images")
    assert found.code == 3
    assert "the results of the work tree are out of date" in found.title
    assert "dvc repro would run train" in found.title
    assert "Going by the files as they are" in found.report
    assert "<code>train</code> | **still has to run** | <code>train.epochs</code>" in found.report


def test_a_stage_that_the_predictions_do_not_depend_on_may_be_out_of_date(made: Repository) -> None:
    made.train_more(*few(11, 12))
    base = made.commit("Base")
    made.put(Run(wrong(0, 2), train={"epochs": 4}))
    made.train_more(*few(2, 3))
    (made.path / "side").mkdir()
    (made.path / "side/in.txt").touch()
    text = "stages:\n  tidy:\n    cmd: echo\n    deps: [in.txt]\n    outs: [tidy.txt]\n"
    (made.path / "side/dvc.yaml").write_text(text, encoding="utf-8")
    found = made.compare("--json", "--no-images", base, "--fail-if-worse")
    assert (found.code, found.json["verdict"]) == (0, "better")


def test_results_of_a_frozen_stage_that_is_out_of_date_are_not_judged(made: Repository) -> None:
    base = made.commit("Base")
    pipeline = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))
    pipeline["stages"]["train"]["frozen"] = True
    Path("dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False), encoding="utf-8")
    assert made.compare("--json", "--no-images", base).json["verdict"] == "no difference"
    params = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(params.replace("epochs: 5", "epochs: 9"), encoding="utf-8")
    found = made.compare("--fail-if-worse", "--no-images", base)
    assert found.code == 3
    assert "train is frozen and would run otherwise" in found.title
    assert "it is frozen" in found.report


def test_earlier_results_that_were_out_of_date_are_told(made: Repository) -> None:
    params = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(params.replace("epochs: 5", "epochs: 9"), encoding="utf-8")
    base = made.commit("Forget to run")
    made.put(Run(wrong(9, 2)))
    found = made.compare("--no-images", base)
    assert f"The results of {base[:7]} do not belong to its code and parameters" in found.report
    assert f"WARNING: The results of {base[:7]}" in found.err


def test_results_that_contradict_each_other_are_told(made: Repository) -> None:
    made.put(Run(wrong(9, 2)))
    path = Path("reports/evaluate/metrics.json")
    path.write_text(path.read_text(encoding="utf-8").replace("0.966667", "0.99"), encoding="utf-8")
    assert "contradict each other" in made.compare("--no-images").err


def test_stages_that_ran_and_their_reasons(made: Repository) -> None:
    made.put(Run(wrong(9, 2), train={"epochs": 4}))
    stages = {each["stage"]: each for each in made.compare("--json", "--no-images").json["stages"]}
    assert stages["prepare"]["state"] == "unchanged"
    assert stages["train"] == {"stage": "train", "state": "ran", "because_of": ["train.epochs"]}
    assert stages["evaluate"]["because_of"] == ["models/model.keras"]


def test_another_result_from_the_same_inputs_is_told(made: Repository) -> None:
    made.put(Run(wrong(9, 2)))
    stages = {each["stage"]: each for each in made.compare("--json", "--no-images").json["stages"]}
    assert stages["train"]["state"] == "other result"


def test_a_revision_without_metrics_is_unknown(made: Repository) -> None:
    made.git("checkout", "-q", "--orphan", "early")
    made.git("rm", "-rqf", ".")
    Path("notes.txt").write_text("An idea", encoding="utf-8")
    made.git("add", "notes.txt")
    made.git("commit", "-q", "-m", "Idea")
    early = made.git("rev-parse", "HEAD")
    made.git("checkout", "-q", "change")
    made.put(Run())
    found = made.compare(early, "--no-images")
    assert found.code == 0
    assert "🟡 Better or worse is not known" in found.title
    assert "Before: not known, reports/evaluate/metrics.json: not found" in found.report
    assert "Better or worse is not known" in found.err
    assert made.compare(early, "--no-images", "--fail-if-worse").code == 3
    unknown = made.compare(early, "--no-images", "--json").json
    assert unknown["before"]["metrics"] is None
    assert unknown["accuracy"] is None
    assert "metrics before" in unknown["unknown"]


def test_empty_metrics_are_unknown_and_not_unchanged(made: Repository) -> None:
    Path("reports/evaluate/metrics.json").write_text("{}", encoding="utf-8")
    base = made.commit("Empty")
    found = made.compare(base, "--no-images", "--json")
    assert found.json["before"]["metrics"] is None


def test_without_dvc_the_numbers_of_git_are_compared(made: Repository) -> None:
    made.git("rm", "-rqf", ".dvc")
    shutil.rmtree(".dvc", ignore_errors=True)
    base = made.commit("Leave DVC")
    made.put(Run(wrong(0, 40)))
    shutil.rmtree(".dvc")
    found = made.compare(base, "--no-images")
    assert "By totals alone" in found.err
    assert "are up to date is not known" in found.err


def test_the_merge_base_is_taken_and_not_the_tip_of_main(made: Repository) -> None:
    made.put(Run(wrong(9, 2)))
    made.commit("Change")
    made.git("checkout", "-q", "main")
    base = made.git("rev-parse", "HEAD")
    made.put(Run(wrong(0, 1)))
    made.commit("Meanwhile on main")
    made.git("checkout", "-q", "change")
    made.put(Run(wrong(9, 2)))
    found = made.compare("--json", "--no-images")
    assert found.json["before"]["commit"] == base
    assert found.json["before"]["how"] == "the merge base with main"


def test_a_detached_head_is_compared_as_well(made: Repository) -> None:
    made.put(Run(wrong(9, 2)))
    made.commit()
    made.git("checkout", "-q", "--detach")
    found = made.compare("--no-images")
    assert "with a detached HEAD" in found.report


def test_ci_names_the_branch(made: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    made.git("branch", "release")
    monkeypatch.setenv("GITHUB_BASE_REF", "release")
    assert made.compare("--json", "--no-images").json["before"]["how"].endswith("with release")
    monkeypatch.setenv("GITHUB_BASE_REF", "gone")
    assert "GITHUB_BASE_REF: expected a branch that was fetched, found 'gone'" in made.fails()


def test_the_commit_itself_is_told(made: Repository) -> None:
    found = made.compare("--no-images", "HEAD")
    assert "That is the present commit itself, and nothing is uncommitted" in found.report


def test_a_shallow_clone_says_how_to_deepen_it(
    made: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.commit("Change")
    address = made.path.resolve().as_uri()
    clone = tmp_path / "clone"
    command = ["git", "clone", "-q", "--depth", "1", "--branch", "change", address, str(clone)]
    subprocess.run(command, check=True)
    monkeypatch.chdir(clone)
    monkeypatch.setenv("GITHUB_BASE_REF", "main")
    assert "fetch-depth: 0" in made.fails()
    monkeypatch.delenv("GITHUB_BASE_REF")
    assert "fetch-depth: 0" in made.fails("HEAD~1")
    subprocess.run(["git", "fetch", "-q", "--depth", "1", "origin", "main:main"], check=True)
    message = made.fails()
    assert "HEAD and main: expected a common ancestor, found none" in message
    assert "fetch-depth: 0" in message


def test_unrelated_histories_ask_for_a_revision(made: Repository) -> None:
    made.git("checkout", "-q", "--orphan", "alone")
    made.commit("First")
    assert "unrelated" in made.fails()


def test_a_repository_without_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Repository
) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path / "new")], check=True)
    monkeypatch.chdir(tmp_path / "new")
    assert "has no commit yet" in made.fails()


def test_the_first_commit_has_none_before_it(made: Repository) -> None:
    assert "HEAD~1: unknown Git revision; HEAD has 0 commits before it" in made.fails("HEAD~1")


def test_no_main_branch_asks_for_a_revision(made: Repository) -> None:
    made.git("branch", "-m", "main", "trunk")
    message = made.fails()
    assert "expected one of origin/main" in message
    assert "change, trunk" in message


def test_an_unknown_revision_suggests_the_nearest(made: Repository) -> None:
    message = made.fails("chnage")
    assert "chnage: unknown Git revision; known are change, main." in message
    assert "Did you mean 'change'?" in message


def test_outside_git_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Repository
) -> None:
    (tmp_path / "plain").mkdir()
    monkeypatch.chdir(tmp_path / "plain")
    assert "expected a Git repository, found none" in made.fails()


def test_the_change_of_the_confusion_matrix_says_what_got_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with drawn.texts(monkeypatch) as texts:
        better = change_figures.confusion_change(np.array([[12, -12], [0, 0]]), ["a", "b"])
    assert {text.text for text in texts} >= {"+12", "−12"}
    worse = change_figures.confusion_change(np.array([[-12, 12], [0, 0]]), ["a", "b"])
    assert drawn.count(better, palette.CORRECT) > 10 * drawn.count(better, palette.INCORRECT)
    assert drawn.count(worse, palette.INCORRECT) > 10 * drawn.count(worse, palette.CORRECT)


def test_figures_lie_beside_the_report_and_do_not_outlive_it(made: Repository) -> None:
    made.put(Run(wrong(9, 2)))
    found = made.compare()
    for name in ("curves.png", "confusion.png", "images.png"):
        assert (REPORT.parent / name).read_bytes().startswith(b"\x89PNG")
        assert f"]({name})" in found.report
    tables = made.compare("--no-images").report
    assert "![" not in tables
    assert sorted(path.name for path in REPORT.parent.iterdir()) == [
        "report.html",
        "report.md",
        "tables.md",
    ]


def test_the_size_of_the_model_is_a_whole_number(made: Repository) -> None:
    made.put(Run(wrong(9, 2)))
    assert "Model: 9,610 parameters" in made.compare().report


def test_the_report_is_the_same_every_time(made: Repository) -> None:
    made.put(Run(wrong(9, 2)))
    made.compare()
    first = {path.name: path.read_bytes() for path in REPORT.parent.iterdir()}
    made.compare()
    assert {path.name: path.read_bytes() for path in REPORT.parent.iterdir()} == first


def test_without_the_images_the_rest_is_shown(made: Repository) -> None:
    made.put(Run(wrong(9, 2)))
    Path("data/normalized/test.npz").write_bytes(b"broken")
    found = made.compare()
    assert "The test images are not shown" in found.err
    assert not (REPORT.parent / "images.png").exists()
    assert (REPORT.parent / "confusion.png").exists()


def test_outputs_that_are_not_checked_out_come_from_the_cache(made: Repository) -> None:
    made.put(Run(wrong(9, 2)))
    Path("reports/evaluate/predictions.csv").unlink()
    shutil.rmtree("data")
    found = made.compare()
    assert "9 were fixed" in found.report
    assert (REPORT.parent / "images.png").exists()


def test_a_mistake_in_params_yaml_is_an_error(made: Repository) -> None:
    Path("params.yaml").write_text("train: [", encoding="utf-8")
    assert "params.yaml" in made.fails()


def test_an_error_leaves_the_last_report(made: Repository) -> None:
    made.compare("--no-images")
    before = REPORT.read_bytes()
    made.fails("nowhere")
    assert REPORT.read_bytes() == before


def test_json_is_alone_on_standard_output(made: Repository) -> None:
    made.put(Run(wrong(0, 30)))
    found = made.compare("--json", "--fail-if-worse", "--no-images")
    assert json.loads(found.out)["exit_status"] == found.code == 3
    assert "not known" in found.err


def test_an_experiment_is_found_by_the_name_that_dvc_gave_it(made: Repository) -> None:
    made.git("update-ref", "refs/exps/ab/cdef/five", "main")
    made.git("update-ref", "refs/exps/exec/EXEC_HEAD", "main")
    assert made.compare("five").code == 0
    message = made.fails("fife")
    assert "fife: unknown Git revision; known are change, main." in message


def test_going_by_files_that_are_out_of_date_is_a_sentence_of_its_own(made: Repository) -> None:
    made.put(Run(wrong(0, 9)))
    base = made.commit("Base")
    made.put(Run(wrong(0, 1)))
    path = made.path / "params.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("epochs: ", "epochs: 1"), "utf-8")
    report = made.compare(base).report
    assert "Going by the files as they are, which are out of date" in report
    assert re.search(r"\. Of the same \d+ test images", report), report


def test_means_are_called_so_only_where_all_trainings_count(made: Repository) -> None:
    cached = (path for path in (made.path / ".dvc/cache/files").rglob("*") if path.is_file())
    of_base = [path for path in cached if path.read_bytes().startswith(b"index,actual")]
    made.put(Run(wrong(0, 11)))
    made.train_more(Run(wrong(0, 12)), Run(wrong(1, 12)))
    for path in of_base:
        path.unlink()
    found = made.compare("--json", "--no-images")
    assert found.json["accuracy"]["paired"] is False
    assert found.json["trainings"]["after"] == [1, 2, 3]
    assert "No difference beyond noise: test accuracy " in found.title
