"""What the DVC extension for VS Code asks of a repository is answered, with no settings."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FIGURES = {"calibration", "confusion", "curves", "mistakes", "per_class", "predictions"}


def answer(repository: Any, *command: str) -> Any:
    done = repository.run("dvc", *command, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert not list(errors(found)), found
    return found


def errors(node: Any) -> Iterator[Any]:
    """What is said under a key for errors, anywhere in an answer."""
    if isinstance(node, dict):
        yield from (node[key] for key in ("error", "errors") if node.get(key))
    for child in (
        node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    ):
        yield from errors(child)


@pytest.mark.slow
def test_every_question_has_an_answer(repository: Any) -> None:
    reproduced = repository.run("dvc", "repro", "-q")
    assert reproduced.code == 0, reproduced.err
    repository.run("git", "add", "-A")
    repository.run("git", "commit", "-qm", "Reproduced", "--allow-empty")
    repository.edit("params.yaml", "  epochs: 60\n", "  epochs: 2\n")
    assert repository.run("dvc", "repro", "-q").code == 0

    workspace, *others = answer(repository, "exp", "show")
    assert workspace["rev"] == "workspace"
    files = workspace["data"]["metrics"]
    assert set(files) == {f"reports/{name}/metrics.json" for name in ("data", "train", "evaluate")}
    assert files["reports/train/metrics.json"]["data"]["epochs"] == 2
    params = workspace["data"]["params"]["params.yaml"]["data"]
    assert params["train"]["epochs"] == 2
    assert others[0]["data"]["metrics"]["reports/train/metrics.json"]["data"]["epochs"] == 60

    found = answer(repository, "params", "diff")
    assert found == {"params.yaml": {"train.epochs": {"old": 60, "new": 2, "diff": -58}}}
    found = answer(repository, "metrics", "diff")
    assert found["reports/train/metrics.json"]["epochs"] == {"old": 60, "new": 2, "diff": -58}

    plots = repository.path / "plots"
    asked = ("plots", "diff", "--split", "-o", str(plots), "HEAD", "workspace")
    found = answer(repository, *asked)["data"]
    curves = {name: found[name][0] for name in ("Loss", "Accuracy", "Confusion matrix")}
    for curve in curves.values():
        assert {entry["rev"] for entry in curve["anchor_definitions"]["<DVC_METRIC_DATA>"]} == {
            "HEAD",
            "workspace",
        }
    figures = {Path(name).stem: images for name, images in found.items() if name.endswith(".png")}
    assert set(figures) >= FIGURES
    for images in figures.values():
        assert {tuple(image["revisions"]) for image in images} == {("HEAD",), ("workspace",)}
        assert all(Path(image["url"]).is_file() for image in images)

    status = answer(repository, "data", "status", "--granular", "--unchanged")
    assert set(status["committed"]["modified"]) >= {"models/model.keras", "reports/index.html"}
    assert "data/normalized/train.npz" in status["unchanged"]
