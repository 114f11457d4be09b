"""How DVC is set up: what it keeps, what an experiment edits, what it shows."""

import difflib
import os
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
    ("file", "before"), [("README.md", "downloaded a ZIP"), ("README.zh.md", "ZIP")]
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
