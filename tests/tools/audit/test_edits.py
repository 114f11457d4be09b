"""Every way to depend on something undeclared is caught, by the run or by the hermetic run."""

import gzip
import pickle
import shutil
import sqlite3
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT, execute
from tests.tools.audit.edits import EDITS
from tools.audit import hermetic

STAGE = """
from pathlib import Path
import numpy as np
from stages.lib.core import config, files, stage
{top}

def read_settings():
    return [config.value("params.yaml", "small.scale", int)]

def main(settings):
    settings = list(settings)
    numbers = np.loadtxt("data/n.txt")
    {main}
    files.write_text(Path("out.txt"), repr((settings, numbers.tolist())))

if __name__ == "__main__":
    stage.run(read_settings, main, [Path("data/n.txt")])
"""
DVC = """
stages:
  small:
    cmd: python -m stages.small
    deps: [data/n.txt, stages/__init__.py, stages/small.py, stages/lib/core]
    params: [small.scale]
    outs: [out.txt]
"""


@pytest.fixture(scope="module")
def _furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of one stage, with files that it does not declare."""
    path = tmp_path_factory.mktemp("furnished") / "a path with spaces"
    for folder in ("stages/lib", "data", "assets", ".git"):
        (path / folder).mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "stages/lib/core", path / "stages/lib/core", ignore=ignore)
    shutil.copyfile(ROOT / "stages/__init__.py", path / "stages/__init__.py")
    texts = {
        "dvc.yaml": DVC,
        "params.yaml": "small:\n  scale: 2\n  one: 1\n",
        "environment.yaml": "keras: '1'\n",
        "data/n.txt": "1 2",
        "stages/lib/extra.py": "x = 1\n",
        "stages/small.py": STAGE.format(top="", main="pass"),
        "assets/plugin.py": "x = 1\n",
        "assets/x.csv": "1,2\n",
        "assets/x.json": "{}",
        "assets/x.toml": "[a]\nb = 1\n",
        "assets/x.xml": "<a/>",
        ".git/HEAD": "ref: refs/heads/main\n",
    }
    for name, text in texts.items():
        (path / name).write_text(text, encoding="utf-8")
    h5py = pytest.importorskip("h5py")
    image = pytest.importorskip("PIL.Image")
    assets = path / "assets"
    with h5py.File(assets / "x.h5", "w") as stream:
        stream["a"] = 1
    image.new("L", (2, 2)).save(assets / "x.png")
    np.save(assets / "x.npy", np.arange(3.0))
    np.savez(assets / "x.npz", np.arange(3.0))
    (assets / "x.gz").write_bytes(gzip.compress(b"1"))
    (assets / "x.pickle").write_bytes(pickle.dumps(1))
    sqlite3.connect(assets / "x.db").close()
    tarfile.open(assets / "x.tar", "w").close()
    return path


@pytest.fixture
def small(_furnished: Path, tmp_path: Path) -> Path:
    path = tmp_path / "a path with spaces"
    shutil.copytree(_furnished, path)
    return path


def write(path: Path, main: str, top: str = "") -> None:
    body = main.replace("\n", "\n    ")
    (path / "stages/small.py").write_text(STAGE.format(top=top, main=body), encoding="utf-8")


def run(path: Path, **environment: str) -> Any:
    return execute(
        [sys.executable, "-m", "stages.small"], path, **{"PWD": str(path), **environment}
    )


@pytest.mark.parametrize("name", [name for name, edit in EDITS.items() if edit.caught == "run"])
def test_the_run_refuses_it_and_names_file_and_line(small: Path, name: str) -> None:
    edit = EDITS[name]
    write(small, edit.main, edit.top)
    done = run(small)
    assert edit.word in done.message, done.message
    assert "in dvc.yaml." in done.message or edit.word not in ("assets/x.", "assets")
    assert not (small / "out.txt").exists() or "swallowed" in name or "thread" in name


@pytest.mark.parametrize(
    "name", [name for name, edit in EDITS.items() if edit.caught == "hermetic"]
)
def test_the_hermetic_run_fails_or_differs(
    small: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = EDITS[name]
    write(small, edit.main, edit.top)
    done = run(small, COLOUR="red")
    assert (done.code, done.err) == (0, "")
    monkeypatch.setenv("COLOUR", "red")
    findings, _ = hermetic.check(small)
    assert [finding.subject for finding in findings] == ["small"]


def test_without_an_edit_nothing_is_found(small: Path) -> None:
    done = run(small)
    assert (done.code, done.err) == (0, "")
    assert hermetic.check(small) == ([], [])


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"PYTHONDONTWRITEBYTECODE": "1"},
        {"PYTHONDONTWRITEBYTECODE": ""},
        {"PYTHONOPTIMIZE": "1"},
    ],
)
def test_compiled_code_is_no_false_alarm(small: Path, environment: dict[str, str]) -> None:
    for _ in range(2):  # the second time it is read
        done = run(small, **environment)
        assert (done.code, done.err) == (0, "")


def test_a_link_to_the_repository_is_no_false_alarm(small: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(small)
    done = run(tmp_path / "link")
    assert (done.code, done.err) == (0, "")


def test_there_are_enough_edits() -> None:
    assert len(EDITS) >= 60
