import importlib
import json
from pathlib import Path

import pytest

from tests.conftest import Repository

MAIN = importlib.import_module("tools.audit.__main__").main

NONE = {
    "validation_images": 200,
    "test_images": 1000,
    "leaked_validation": 0,
    "leaked_test": 0,
    "conflicts": 0,
    "classes": 1,
    "untrained_classes": 0,
    "untested_classes": 0,
    "unreadable_files": 0,
}


@pytest.fixture
def metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("reports/data/metrics.json")
    path.parent.mkdir(parents=True)
    return path


def test_a_clean_data_set_passes(metrics: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics.write_text(json.dumps(NONE))
    assert MAIN(["--data"]) == 0
    assert capsys.readouterr().out == ("ok: no leak between the splits and no conflict of labels\n")


def test_leaks_and_conflicts_fail_with_count_table_and_next_step(
    metrics: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"leaked_validation": 1, "leaked_test": 1234, "test_images": 10_000, "conflicts": 2}
    metrics.write_text(json.dumps(NONE | found))
    assert MAIN(["--data"]) == 1
    parted = "take the images in that table out of one split"
    corrected = "correct the labels of those in that table, or keep one of each"
    sentences = (
        (
            "1,234 of 10,000 test images are in the training or validation split too, equal in "
            "every pixel"
        ),
        "1 of 200 validation images is in the training split too, equal in every pixel",
        "2 images occur more than once with different labels",
    )
    assert capsys.readouterr().out.splitlines() == [
        f"reports/data/tables/duplicates.csv: {sentence}: {step}"
        for sentence, step in zip(sentences, (parted, parted, corrected), strict=True)
    ]


def test_gaps_are_told_and_do_not_fail(metrics: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gaps = {"classes": 3, "untrained_classes": 1, "untested_classes": 2, "unreadable_files": 1}
    metrics.write_text(json.dumps(NONE | gaps))
    assert MAIN(["--data"]) == 0
    printed = capsys.readouterr().out.split("\n")
    said = [line.removeprefix("reports/data/tables/") for line in printed]
    assert said == [
        (
            "classes.csv: 1 of 3 classes has no training image: no model can learn what is not "
            "shown to it."
        ),
        (
            "classes.csv: 2 of 3 classes have no test image: nothing is known of how well a model "
            "does there."
        ),
        "unreadable.csv: 1 file could not be read as an image and was left out.",
        "ok: no leak between the splits and no conflict of labels",
        "",
    ]


def test_counts_of_another_data_set_are_no_verdict(repository: Repository) -> None:
    audit = ("python", "-m", "tools.audit", "--data")
    assert repository.run(*audit).code == 0
    params = repository.path / "params.yaml"
    text = params.read_text(encoding="utf-8")
    params.write_text(text.replace("dataset: digits", "dataset: mnist"), encoding="utf-8")
    done = repository.run(*audit)
    assert done.code == 1
    message = (
        "ERROR: reports/data/metrics.json: expected counts of the data set that is configured, "
        "found some made before a change: normalize: parameter params.yaml: dataset is mnist, it "
        "ran with digits.\nRun `dvc repro normalize` first.\n"
    )
    assert done.err == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "reports/data/metrics.json: not found; an earlier stage makes it."),
        (
            "{}",
            "reports/data/metrics.json: expected counts as normalize writes them, found: no lea",
        ),
        ("[", "reports/data/metrics.json: expected counts as normalize writes them, found: "),
        ('{"conflicts": "no"}', "reports/data/metrics.json: expected counts as normalize writes"),
    ],
)
def test_what_normalize_did_not_write_is_named(
    metrics: Path, content: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        metrics.write_text(content)
    assert MAIN(["--data"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"ERROR: {message}")
    assert "dvc repro" in printed
    assert len(printed.splitlines()) == 2
