"""How DVC is set up: what it keeps, what an experiment edits, what it shows."""

import csv
import difflib
import io
import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
CONFIGURATIONS = [
    "params.yaml",
    *(f"recipes/{path.name}" for path in sorted((ROOT / "recipes").glob("*.yaml"))),
]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_an_experiment_edits_one_line_of_the_parameters(name: str, tmp_path: Path) -> None:
    # what `dvc exp run -S` calls
    from dvc.utils.hydra import apply_overrides  # type: ignore[import-untyped]

    path = tmp_path / "params.yaml"
    before = (ROOT / name).read_text(encoding="utf-8")
    path.write_text(before, encoding="utf-8", newline="\n")
    apply_overrides(path, ["train.epochs=12345"])
    after = path.read_text(encoding="utf-8")
    changed = [
        line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"
    ]
    assert [line[:2] for line in changed] == ["- ", "+ "]
    assert changed[1].startswith("+   epochs: 12345")


def test_a_program_that_overwrites_an_output_leaves_the_cache_intact(
    repository: Any, tmp_path: Path
) -> None:
    (repository.path / "made").write_bytes(b"correct")
    done = repository.run("dvc", "add", "--quiet", "made")
    assert done.code == 0, done.err
    stored = [path for path in (repository.path / ".dvc/cache").rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in stored] == [b"correct"]
    made = repository.path / "made"
    made.chmod(0o644)  # a container's root writes whatever the mode says
    with made.open("r+b") as stream:  # in place, as numpy.savez and `>` write
        stream.write(b"damaged")
    assert stored[0].read_bytes() == b"correct"
    assert repository.run("dvc", "checkout", "--force", "made").code == 0
    assert made.read_bytes() == b"correct"


@pytest.mark.parametrize(
    ("file", "before"),
    [
        ("README.md", "downloaded a ZIP"),
        pytest.param("README.zh.md", "ZIP", marks=pytest.mark.slow),
    ],
)
def test_a_downloaded_zip_becomes_a_repository_by_the_documented_line(
    repository: Any, file: str, before: str
) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    line = text[text.index(before) :].partition("```sh\n")[2].partition("\n")[0]
    assert line.startswith("git init")
    (repository.path / ".git").rename(repository.path.parent / "elsewhere")
    status = ("dvc", "status", "--quiet")
    assert repository.run(*status).code not in (0, 1)
    assert repository.run(*(["bash", "-c"] if os.name != "nt" else ["cmd", "/c"]), line).code == 0
    listed = repository.run("dvc", "stage", "list", "--name-only")
    assert listed.code == 0, listed.err
    assert "train" in listed.out


@pytest.mark.parametrize("validation", [True, False], ids=["validation", "no validation"])
def test_the_curves_are_shown_with_and_without_validation(
    repository: Any, validation: bool
) -> None:
    history = repository.path / "reports/train/history.csv"
    rows = list(csv.DictReader(io.StringIO(history.read_text(encoding="utf-8"))))
    names = [name for name in rows[0] if validation or not name.startswith("val_")]
    with history.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    done = repository.run("dvc", "plots", "show", "Loss", "Accuracy")
    assert done.code == 0, done.err
    assert "could not find" not in done.err
    page = (repository.path / "dvc_plots/index.html").read_text(encoding="utf-8")
    charts = {}
    for text in re.findall(r"var spec = (\{.*?\});\s*vegaEmbed", page, re.DOTALL):
        chart = json.loads(text)
        charts[chart["title"]["text"]] = chart
    assert set(charts) == {"Loss", "Accuracy"}
    for title, name in (("Loss", "loss"), ("Accuracy", "accuracy")):
        chart = charts[title]
        points = chart["data"]["values"]
        assert [point[name] for point in points] == [row[name] for row in rows]
        assert [point.get(f"val_{name}") for point in points] == [
            row[f"val_{name}"] if validation else None for row in rows
        ]
        drawn = {step["as"]: step["calculate"] for step in chart["transform"][:2]}
        assert drawn == {
            "training": f"toNumber(datum['{name}'])",
            "validation": f"toNumber(datum['val_{name}'])",
        }


def test_the_documented_table_of_experiments_shows_results_and_no_hashes(repository: Any) -> None:
    text = (ROOT / "docs/cache.md").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith("dvc exp show ")]
    command = shlex.split(line)
    command.remove("--only-changed")  # there is but one state here, of which nothing changed
    done = repository.run(*command, "--csv")
    assert done.code == 0, done.err
    (columns, *_) = csv.reader(io.StringIO(done.out))
    assert {"dataset", "train.epochs"} <= set(columns)
    assert [name for name in columns if name.rpartition(":")[2] == "accuracy"] != []
    assert [name for name in columns if "/" in name and ":" not in name] == []
