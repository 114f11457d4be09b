import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, Repository

FILES = [
    *(("params", path.relative_to(ROOT).as_posix()) for path in ROOT.glob("recipes/*.yaml")),
    ("params", "params.yaml"),
    ("datasets", "datasets.yaml"),
    ("weights", "weights.yaml"),
    ("environment", "environment.yaml"),
]


def check(schema: str, path: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "check_jsonschema", "--schemafile"]
    return subprocess.run(
        [*command, str(ROOT / f"schemas/{schema}.schema.json"), str(path)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.usefixtures("tensorflow")
def test_the_schemas_are_current(monkeypatch: pytest.MonkeyPatch) -> None:
    from tools import schema

    monkeypatch.chdir(ROOT)
    for name, text in schema.texts().items():
        current = (ROOT / "schemas" / name).read_text(encoding="utf-8")
        assert current == text, "run `python -m tools.schema`"


@pytest.mark.parametrize(("schema", "file"), FILES)
def test_committed_files_fit_and_name_their_schema(schema: str, file: str) -> None:
    done = check(schema, ROOT / file)
    assert done.returncode == 0, done.stdout
    first = (ROOT / file).read_text(encoding="utf-8").splitlines()[0]
    named = first.removeprefix("# yaml-language-server: $schema=")
    # From the top folder, where recipes are copied to
    assert (ROOT / named).resolve() == ROOT / f"schemas/{schema}.schema.json"


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("params", "epochs:", "epoch:"),
        ("params", "optimizer: adam", "optimizer: adma"),
        ("params", "dataset: digits", "dataset: digit"),
        ("params", "    dropout: 0.4", "    dropuot: 0.4"),
        ("params", "batch_size: 32", "batch_size: 0"),
        ("datasets", "  pixel_max: 16", "  pixelmax: 16"),
        ("datasets", "format: npz", "format: npy"),
        ("environment", "numpy:", "nunpy:"),
    ],
)
def test_a_misspelt_key_or_value_is_refused(tmp_path: Path, file: str, old: str, new: str) -> None:
    text = (ROOT / f"{file}.yaml").read_text(encoding="utf-8")
    assert old in text
    changed = tmp_path / f"{file}.yaml"
    changed.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert check(file, changed).returncode == 1


@pytest.mark.usefixtures("tensorflow")
def test_a_users_mistake_is_told_in_two_lines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tools import schema

    monkeypatch.chdir(tmp_path)
    (tmp_path / "datasets.yaml").write_text("a: [", encoding="utf-8")
    assert schema.main([]) == 1
    assert capsys.readouterr().err.startswith("ERROR: datasets.yaml: line 2")


@pytest.mark.usefixtures("tensorflow")
def test_an_argument_is_described_by_its_docstring() -> None:
    from tools import schema

    def build(shape: object, *, units: int, depth: int = 1) -> None:
        """A network.

        Args:
            shape: Of an image.
            units: How many there are
                in each layer.
            depth: Of it.

        Returns:
            It: all of it.
        """

    found = schema._descriptions(build)
    assert found == {
        "shape": "Of an image.",
        "units": "How many there are in each layer.",
        "depth": "Of it.",
    }
    assert schema._descriptions(lambda: None) == {}


def test_a_layer_of_ones_own_with_a_mixin_needs_no_keras(repository: Repository) -> None:
    network = """import abc
import keras

class Named(abc.ABC):
    pass

class Noise(Named, keras.layers.Layer):
    pass

HALF = keras.Input((8,)) / 2

def build(input_shape, num_classes, *, width: int) -> keras.Model:
    raise NotImplementedError
"""
    (repository.path / "stages/models/own.py").write_text(network, encoding="utf-8")
    done = repository.run("python", "-X", "importtime", "-m", "tools.schema")
    assert done.code == 0, done.err
    assert "keras.src" not in done.err
    text = (repository.path / "schemas/params.schema.json").read_text(encoding="utf-8")
    assert '"own": {' in text
