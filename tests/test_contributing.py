"""CONTRIBUTING.md's table of what can be added: each is added as it says, and found everywhere."""

import hashlib
import json
import re
import sys
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.documents import blocks

ADDED = ["an architecture", "a data set", "a raw format", "a metric", "a figure", "a parameter"]

FORMAT = '''"""Text files of a label and its pixels a line, comma-separated."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stages.lib.data.formats import Raw

FILES = ("train", "test")


def read(paths: Mapping[str, Path]) -> tuple[Raw, Raw]:
    """The training and the test set in two files."""
    tables = [np.loadtxt(paths[name], np.int64, delimiter=",") for name in FILES]
    train, test = ((table[:, 1:].reshape(-1, 4, 4), table[:, 0]) for table in tables)
    return train, test
'''
METRIC = """    Metric(
        name="worst_recall",
        label="Worst recall",
        unit="proportion",
        better="higher",
        compute=lambda outcome: float(np.nanmin(per_class(outcome.confusion).recall)),
    ),
)
"""
FIGURE = '''

def empty(title: str) -> bytes:
    """A sheet with nothing but a title, as PNG."""
    with drawing.sheet(4.0, 0.4, title, "Nothing else.") as sheet:
        pass
    return sheet.png
'''
STAGE = '''"""Count: how many training images there are."""

from dataclasses import dataclass
from pathlib import Path

from stages.lib import split_file
from stages.lib.core import config, files, stage, versions

TRAIN = Path("data/normalized/train.npz")


@dataclass(frozen=True)
class Settings:
    """What the result depends on."""

    dataset: str


def read_settings() -> Settings:
    """Reads the configuration."""
    versions.require("msgspec", "numpy", "pyyaml", "zlib-ng")
    return Settings(config.value(config.PARAMS, "dataset", str))


def main(settings: Settings) -> None:
    """Writes reports/count.json."""
    count = len(split_file.read(TRAIN).labels)
    files.write_json(Path("reports/count.json"), {settings.dataset: count})


if __name__ == "__main__":
    stage.run(read_settings, main, [TRAIN])
'''


def test_the_table_lists_what_is_tried_here() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| to add \|.*?\n\n", text, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| ([\w ]+) \|", table, re.MULTILINE)
    in_commands = "weights to start from"  # what tests/test_commands.py adds
    assert sorted(rows) == sorted(["to add", *ADDED, in_commands, "a stage"])


def made(count: int) -> str:
    """Images of two classes, dark and bright, and no two alike."""
    lines = []
    for number in range(count):
        pixels = [100 * (number % 2) + (7 * number + at * at) % 50 for at in range(16)]
        lines.append(",".join(str(value) for value in (number % 2, *pixels)))
    return "\n".join(lines) + "\n"


def add_data_set(repository: Any) -> None:
    """A data set in a format of its own, in a mirror beside the repository."""
    mirror = repository.path.parent / "mirror/made"
    mirror.mkdir(parents=True)
    entry: dict[str, Any] = {
        "title": "Made", "licence": "CC0", "citation": "Nobody.", "format": "text", "urls": [],
        "files": {}, "pixel_max": 150, "class_names": ["dark", "bright"],
    }  # fmt: skip
    for name, count in (("train", 120), ("test", 40)):
        content = made(count).encode()
        (mirror / f"{name}.csv").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        entry["files"][name] = {"name": f"{name}.csv", "sha256": digest}
    path = repository.path / "datasets.yaml"
    text = yaml.safe_dump({"made": entry}, sort_keys=False)
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{text}", encoding="utf-8")
    (repository.path / "stages/lib/data/formats/text.py").write_text(FORMAT, encoding="utf-8")
    repository.edit("params.yaml", "dataset: digits\n", "dataset: made\n")


def add_architecture(repository: Any) -> None:
    """The network of docs/own-network.md."""
    (code,) = blocks(ROOT / "docs/own-network.md", "python")
    (repository.path / "stages/models/residual.py").write_text(code, encoding="utf-8")
    repository.edit(
        "params.yaml",
        "  architecture: mlp ",
        "  residual:\n    channels: [4, 8]\n    blocks: 1\n  architecture: residual ",
    )
    repository.edit("params.yaml", "  epochs: 60\n", "  epochs: 2\n")


def add_metric_figure_and_parameter(repository: Any) -> None:
    """Each where CONTRIBUTING.md says."""
    path = repository.path / "stages/lib/metrics.py"
    text = path.read_text(encoding="utf-8")
    start = text.index("\nMETRICS = (")
    end = text.index("\n)\n", start)
    path.write_text(f"{text[: end + 1]}{METRIC}{text[end + 3 :]}", encoding="utf-8")
    path = repository.path / "stages/lib/reporting/figures.py"
    path.write_text(path.read_text(encoding="utf-8") + FIGURE, encoding="utf-8")
    repository.edit(
        "stages/plot.py",
        '        "per_class": figures.per_class(',
        '        "empty": figures.empty(title_of_mine),\n        "per_class": figures.per_class(',
    )
    repository.edit(
        "stages/plot.py",
        '    """The figures as PNG, by name."""\n',
        '    """The figures as PNG, by name."""\n    title_of_mine = report.TITLE\n',
    )
    repository.edit(
        "stages/lib/reporting/report.py",
        '        "curves": alt_text',
        '        "empty": "Nothing but a title.",\n        "curves": alt_text',
    )
    repository.edit(
        "stages/lib/reporting/report.py", "_CONFUSIONS = 15", 'TITLE = "Mine"\n_CONFUSIONS = 15'
    )
    repository.edit(
        "stages/lib/reporting/templates/report.html.jinja",
        "{% call parts.figure(figures.curves) %}",
        "{% call parts.figure(figures.empty) %}Mine.{% endcall %}\n"
        "{% call parts.figure(figures.curves) %}",
    )
    repository.edit(
        "stages/evaluate.py",
        '    """The section ``evaluate`` of params.yaml."""\n\n',
        '    """The section ``evaluate`` of params.yaml."""\n\n'
        '    greeting: Annotated[str, Meta(description="printed")] = "Hello"\n',
    )
    repository.edit(
        "stages/evaluate.py",
        "    runtime.configure(params.threads)\n",
        "    runtime.configure(params.threads)\n    print(params.greeting)\n",
    )
    repository.edit("params.yaml", "evaluate:\n", "evaluate:\n  greeting: Good day\n")


def add_stage(repository: Any) -> None:
    """A stage whose deps and parameters the audit writes."""
    (repository.path / "stages/count.py").write_text(STAGE, encoding="utf-8")
    repository.edit(
        "dvc.yaml",
        "\nplots:\n",
        "\n  count:\n    cmd: python -m stages.count\n"
        "    deps:\n      - data/normalized/train.npz\n"
        "    outs:\n      - reports/count.json:\n          cache: false\n\nplots:\n",
    )


@pytest.mark.slow
def test_each_piece_is_added_as_the_table_says(repository: Any) -> None:
    def run(*command: str) -> Any:
        mirror = str(repository.path.parent / "mirror")
        done = repository.run(sys.executable, "-m", *command, DATASET_MIRROR=mirror)
        assert done.code == 0, done.out + done.err
        return done

    add_data_set(repository)
    add_architecture(repository)
    add_metric_figure_and_parameter(repository)
    add_stage(repository)
    run("tools.schema")
    schema = (repository.path / "schemas/params.schema.json").read_text(encoding="utf-8")
    assert all(f'"{word}"' in schema for word in ("made", "residual", "greeting"))
    run("tools.audit", "--fix")
    run("tools.audit")
    printed = run("dvc", "repro").out
    assert "Good day" in printed
    reports = repository.path / "reports"
    assert 0 <= json.loads((reports / "evaluate/metrics.json").read_text())["worst_recall"] <= 1
    assert json.loads((reports / "count.json").read_text()) == {"made": 108}
    assert (reports / "figures/empty.png").is_file()
    page = (reports / "index.html").read_text(encoding="utf-8")
    assert all(word in page for word in ("Worst recall", "Nothing but a title.", "residual"))
    assert run("dvc", "repro").out.count("Running stage") == 0
    repository.run("git", "add", "-A")
    repository.run("git", "commit", "-qm", "Added")
    run("tools.compare", "HEAD~1", "--no-images")
    report = (reports / "comparison/report.md").read_text(encoding="utf-8")
    assert "Worst recall" in report
