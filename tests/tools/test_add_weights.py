import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.lib.core.errors import UserError
from tests.conftest import ROOT, Answer, Project, Server
from tools import add_weights
from tools.lib import own_files

CATALOGUE = (ROOT / "weights.yaml").read_text(encoding="utf-8")
HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(100)
CLASSIFIER = {
    "class_names": ["oak", "beech", "fir", "elm", "ash", "yew"],
    "class_names_zh": [],
    "input_shape": [4, 4],
    "input_range": [0.0, 1.0],
    "pixel_max": 255.0,
    "resize": "pad",
    "background": 0.0,
    "outputs": "logits",
    "typical": {
        "properties": ["a"],
        "lowest": [0.0],
        "highest": [1.0],
        "mean": [0.5],
        "precision": [[1.0]],
        "distances": [0.0, 1.0],
    },
}


@pytest.fixture
def place(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A working folder with the committed catalogue, in which DVC is not asked."""
    Path("weights.yaml").write_text(CATALOGUE, "utf-8")
    monkeypatch.setattr(own_files, "track", lambda *_: None)
    monkeypatch.setattr(own_files, "refresh_schemas", lambda: None)
    return project


@pytest.fixture
def model(place: Project) -> Path:
    """The head of a model's file, which is all that is looked at."""
    path = Path("model.keras")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"classifier": CLASSIFIER}))
    return path


def entry(name: str) -> dict[str, Any]:
    text = Path("weights.yaml").read_text(encoding="utf-8")
    assert text.startswith(CATALOGUE)  # not a byte of what was there has changed
    added: dict[str, Any] = yaml.safe_load(text)[name]
    return added


def described(name: str, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    return {"values": {"name": name, "sha256": digest, "size": len(content)}}


def test_a_model_of_this_project_becomes_an_entry(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_weights.main([str(model), "--name", "leaves"])
    assert capsys.readouterr().out.splitlines() == [
        "A model of this project for 6 classes: oak, beech, fir, elm, ash, ...",
        "weights.yaml has the entry leaves; fill in its title, licence and citation.",
        "To start from it, set in params.yaml",
        "  model:",
        "    weights: leaves",
        "and run `dvc repro`.",
    ]
    content = model.read_bytes()
    assert Path("data/own/leaves.keras").read_bytes() == content
    assert entry("leaves") == {
        "title": "leaves",
        "licence": "unknown",
        "citation": "unknown",
        "urls": [],
        "files": described("leaves.keras", content),
    }


def test_weights_of_keras_applications_become_an_entry(
    place: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("Some Network_notop.h5").write_bytes(HDF5)
    add_weights.main(["Some Network_notop.h5"])
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Weights in HDF5, 108 bytes; train says whether they fit."
    assert said[2:] == [
        "To start from it, set in params.yaml",
        "  model:",
        "    architecture: pretrained",
        "    pretrained:",
        "      backbone: ITS_NAME_IN_KERAS",
        "    weights: some_network_notop",
        "and run `dvc repro`.",
    ]
    found = entry("some_network_notop")
    assert found["files"] == described("some_network_notop.h5", HDF5)


def test_weights_that_keras_saves_today_keep_the_ending_by_which_it_knows_them(
    place: Project,
) -> None:
    Path("Net.weights.h5").write_bytes(HDF5)
    add_weights.main(["Net.weights.h5"])
    assert entry("net")["files"] == described("net.weights.h5", HDF5)


def test_what_comes_from_an_address_is_fetched_from_there_again(
    place: Project, server: Server
) -> None:
    server.answers["/nets/x_notop.h5"] = [Answer(HDF5)]
    add_weights.main([f"{server.url}/nets/x_notop.h5", "--name", "x"])
    assert entry("x")["urls"] == [f"{server.url}/nets/"]
    assert entry("x")["files"] == described("x_notop.h5", HDF5)
    assert list(Path("data/own").iterdir()) == []
    cache = place.path / "cache/weights/x_notop.h5"
    assert cache.read_bytes() == HDF5  # so that download finds it


def test_a_file_that_a_replacement_no_longer_uses_is_named(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_weights.main([str(model), "--name", "leaves"])
    Path("data/own/leaves.keras.dvc").write_text("outs")
    Path("other.h5").write_bytes(HDF5)
    capsys.readouterr()
    add_weights.main(["other.h5", "--name", "leaves", "--replace"])
    told = "data/own/leaves.keras is no longer used: `dvc remove --outs data/own/leaves.keras.dvc`"
    assert told in capsys.readouterr().out.splitlines()


def test_an_entry_is_replaced(model: Path) -> None:
    add_weights.main([str(model), "--name", "leaves"])
    text = Path("weights.yaml").read_text(encoding="utf-8")
    Path("weights.yaml").write_text(text.replace("licence: unknown", "licence: CC0"), "utf-8")
    with zipfile.ZipFile(model, "a") as archive:
        archive.writestr("more", "bytes")
    with pytest.raises(UserError, match="expected a new name, found an entry leaves"):
        add_weights.main([str(model), "--name", "leaves"])
    add_weights.main([str(model), "--name", "leaves", "--replace"])
    with pytest.raises(UserError, match="expected a new name, found an entry none"):
        add_weights.main([str(model), "--name", "none", "--replace"])
    assert entry("leaves")["licence"] == "CC0"
    assert entry("leaves")["files"] == described("leaves.keras", model.read_bytes())


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("folder", None, "folder: expected a .keras or .h5 file, found a folder"),
        ("photo.keras", b"no zip", "photo.keras: expected a model that train wrote, or weights in"),
    ],
)
def test_what_is_no_file_of_weights_is_refused(
    name: str, content: bytes | None, expected: str, place: Project
) -> None:
    if content is None:
        Path(name).mkdir()
    else:
        Path(name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        add_weights.main([name, "--name", "x"])
    assert str(caught.value).startswith(expected)
    assert Path("weights.yaml").read_text(encoding="utf-8") == CATALOGUE
    assert list(Path("data/own").iterdir()) == []


def test_a_model_that_keras_saved_again_is_refused(place: Project) -> None:
    with zipfile.ZipFile("other.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
    with pytest.raises(UserError, match="found: no classifier in its metadata"):
        add_weights.main(["other.keras"])


def test_a_failure_leaves_everything_as_it_was(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise UserError("DVC refuses.\nMend that and run again.")

    monkeypatch.setattr(own_files, "track", fails)
    with pytest.raises(UserError, match="DVC refuses"):
        add_weights.main([str(model)])
    assert list(Path("data/own").iterdir()) == []
    assert Path("weights.yaml").read_text(encoding="utf-8") == CATALOGUE
