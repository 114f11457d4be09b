from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.lib.core import config
from stages.lib.core.errors import UserError
from stages.lib.data import catalogue
from tests.conftest import ROOT, Project


class Some(config.Schema, frozen=True):
    pixel_max: catalogue.PixelMax
    class_names: catalogue.ClassNames


def refusal(project: Project) -> str:
    project.save()
    with pytest.raises(UserError) as caught:
        catalogue.active(Some)
    message = str(caught.value)
    assert len(message.splitlines()) == 2
    return message


def test_the_named_fields_of_the_active_entry_are_given(project: Project) -> None:
    assert catalogue.active(Some) == (
        "tiny",
        Some(255.0, {"en": ["even", "odd"], "zh": ["偶", "奇"]}),
    )
    assert project.tiny["urls"] == []


def test_there_may_be_no_chinese_names(project: Project) -> None:
    project.tiny["class_names"] = ["even", "odd"]
    project.save()
    name, entry = catalogue.active(catalogue.Entry)
    assert name == "tiny"
    assert catalogue.names(entry.class_names, "en") == ["even", "odd"]
    assert catalogue.names(entry.class_names, "zh") == []


@pytest.mark.parametrize("name", ["of two\nlines", "with a\ttab", ""])
def test_a_name_that_is_no_line_is_refused(project: Project, name: str) -> None:
    project.tiny["class_names"] = ["even", name]
    project.save()
    with pytest.raises(UserError, match="expected names of 1 to 200 letters, without tabs and"):
        catalogue.active(catalogue.Entry)


def test_names_in_two_languages(project: Project) -> None:
    _, entry = catalogue.active(catalogue.Entry)
    assert catalogue.names(entry.class_names, "zh") == ["偶", "奇"]


@pytest.mark.parametrize("name", ["mnst", "MNIST", "mnist ", "mni st"])
def test_an_unknown_data_set_gets_the_known_ones_and_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("datasets.yaml").write_bytes((ROOT / "datasets.yaml").read_bytes())
    Path("params.yaml").write_text(yaml.safe_dump({"dataset": name}))
    with pytest.raises(UserError) as caught:
        catalogue.active(Some)
    assert str(caught.value) == (
        "params.yaml: dataset: expected one of digits, fashion_mnist, mnist; "
        f"found '{name}'.\nDid you mean 'mnist'?"
    )


def test_every_committed_entry_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("datasets.yaml").write_bytes((ROOT / "datasets.yaml").read_bytes())
    for name in yaml.safe_load((ROOT / "datasets.yaml").read_text(encoding="utf-8")):
        Path("params.yaml").write_text(yaml.safe_dump({"dataset": name}))
        assert catalogue.active(catalogue.Entry)[0] == name


def change(entry: dict[str, Any], key: str, value: object) -> None:
    """Sets a dotted key, or removes it."""
    *parents, last = key.split(".")
    for parent in parents:
        entry = entry[parent]
    if value is None:
        del entry[last]
    else:
        entry[last] = value


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("title", None, "tiny.title: this key is missing"),
        ("licence", None, "tiny.licence: this key is missing"),
        ("class_names", None, "tiny.class_names: this key is missing"),
        ("class_names", "even", "tiny.class_names: expected a list, each a text"),
        ("class_names", {"zh": ["偶", "奇"]}, "class_names: expected as many names in every"),
        (
            "class_names",
            {"en": ["a", "b"], "cn": ["偶"]},
            "class_names: expected one of en, zh; fou",
        ),
        ("pixelmax", 255, "tiny.pixelmax: unknown key; .*\nDid you mean 'pixel_max'?"),
        ("files", 5, "tiny.files: expected a section of keys and values, found 5"),
        ("files", "a.gz", "tiny.files: expected a section"),
        ("files.test_label", {}, "tiny.files.test_label.name: this key is missing"),
        ("files.test_labels", "a.gz", "tiny.files.test_labels: expected a section"),
        ("files.test_labels.sha256", None, "tiny.files.test_labels.sha256: this key is missing"),
        ("files.test_labels.sha", "0", "tiny.files.test_labels.sha: unknown key"),
        ("files.test_labels.sha256", "abc", "sha256: expected 64 digits of 0-9 and a-f"),
        ("files.test_labels.sha256", "A" * 64, "sha256: expected 64 digits of 0-9 and a-f"),
        ("files.test_labels.sha256", "0" * 63 + "\n", "sha256: expected 64 digits"),
        ("files.test_labels.sha256", 5, "sha256: expected a text, found 5.\nWrite it in quotes"),
        ("files.test_labels.name", "", "name: expected a file name without folders, found ''"),
        ("urls", "https://x.org/", "tiny.urls: expected a list, each a text"),
        ("urls", ["ftp://x.org/"], "urls: expected addresses with http:// or https://, found 'ftp"),
        ("urls", ["x.org/"], "urls: expected addresses with http:// or https://, found 'x.org/'"),
        ("urls", ["https:///x"], "urls: expected addresses with http:// or https://"),
        ("pixel_max", 0, "pixel_max: expected a number in .*, found 0"),
        ("pixel_max", 1e-300, "pixel_max: expected a number in .*, found 1e-300"),
        ("pixel_max", 1e300, "pixel_max: expected a number in "),
        (
            "pixel_max",
            "255",
            "pixel_max: .* found the text '255'.\nWrite the number without quotes",
        ),
        ("class_names", ["a", "b" * 100_000], "class_names: expected names .* of 100,000"),
        ("class_names", ["a", " "], "class_names: expected names of 1 to 200"),
        ("class_names", ["one"], "class_names: expected two or more English names, found 1"),
        ("class_names", [0, 1], r"class_names\[0\]: expected a text, found 0.\nWrite it in quotes"),
        ("class_names", [True, False], r"class_names\[0\]: expected a text, found true.\nWrite it"),
        ("class_names", ["a", "a"], "class_names: expected names that differ, found 'a' more than"),
        ("class_names", {"en": ["a", "b"], "zh": ["偶", "偶"]}, "expected names that differ"),
        (
            "class_names",
            {"en": ["a", "b"], "zh": ["偶", "奇", "零"]},
            "class_names: expected as many names in every language, 2 as in English, found 3 in zh",
        ),
    ],
)
def test_a_wrong_entry_is_named(project: Project, key: str, value: object, expected: str) -> None:
    change(project.tiny, key, value)
    project.save()
    with pytest.raises(UserError, match=f"^datasets.yaml: .*{expected}"):
        catalogue.active(Some)
    refusal(project)


@pytest.mark.parametrize(
    "name",
    [
        "../../../etc/passwd",
        "..",
        ".",
        ".hidden",
        "/etc/passwd",
        "folder/file.gz",
        "folder\\file.gz",
        "C:file.gz",
        "a\nb",
        "what?.gz",
    ],
)
def test_a_file_name_leads_nowhere_else(project: Project, name: str) -> None:
    project.tiny["files"]["test_labels"]["name"] = name
    message = refusal(project)
    assert message.startswith(
        "datasets.yaml: tiny.files.test_labels.name: expected a file name without folders, found"
    )


@pytest.mark.parametrize("name", ["../tiny", "a/b", "a.b", "", ".", "-x", "a b"])
def test_a_data_set_has_a_name_that_folders_and_keys_may_have(project: Project, name: str) -> None:
    project.datasets[name] = project.datasets.pop("tiny")
    project.params["dataset"] = name
    assert "expected a name of letters, digits, _ and -" in refusal(project)


def test_names_that_yaml_reads_as_something_else_are_no_entries(project: Project) -> None:
    project.datasets[123] = project.tiny  # type: ignore[index]
    project.datasets[True] = project.tiny  # type: ignore[index]
    project.params["dataset"] = "123"
    assert "expected one of tiny; found '123'" in refusal(project)
    project.params["dataset"] = 123
    assert "dataset: expected a text, found 123.\nWrite it in quotes" in refusal(project)


def test_an_entry_that_is_no_section_is_refused(project: Project) -> None:
    for value in (None, 5, "text", [1]):
        project.datasets["tiny"] = value
        assert refusal(project).startswith("datasets.yaml: tiny: expected a section of keys and ")


def test_another_entry_may_be_wrong(project: Project) -> None:
    project.datasets["other"] = {"format": "unknown"}
    project.save()
    assert catalogue.active(Some)[0] == "tiny"


def test_every_committed_entry_of_weights_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights.yaml").write_bytes((ROOT / "weights.yaml").read_bytes())
    for name in yaml.safe_load((ROOT / "weights.yaml").read_text(encoding="utf-8")):
        Path("params.yaml").write_text(yaml.safe_dump({"model": {"weights": name}}))
        found, entry = catalogue.active_weights(catalogue.Weights)
        assert found == name
        assert bool(entry.files) == bool(entry.urls) == (name != catalogue.NO_WEIGHTS)


@pytest.mark.usefixtures("tensorflow")
def test_the_committed_addresses_and_digests_are_those_that_keras_publishes() -> None:
    from keras.src.applications import convnext

    entries = yaml.safe_load((ROOT / "weights.yaml").read_text(encoding="utf-8"))
    published = {name: entry for name, entry in entries.items() if entry["urls"]}
    assert published
    for name, entry in published.items():
        file = entry["files"]["values"]
        assert file["sha256"] == convnext.WEIGHTS_HASHES[name][1]
        assert entry["urls"] == [convnext.BASE_WEIGHTS_PATH]
        assert file["name"] == f"{name}_notop.h5"


FILE = {"name": "own.h5", "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("licence", None, "own.licence: this key is missing"),
        ("format", "npz", "own.format: unknown key"),
        ("files.weights", FILE, "own.files: expected one of values; found 'weights'"),
        ("files", {}, "own.files: expected values, found no values"),
        ("files.values.name", "own.npz", "name: expected a .keras or .h5 file, found 'own.npz'"),
        ("files.values.name", "../own.h5", "name: expected a file name without folders"),
        ("files.values.sha256", "0" * 63, "sha256: expected 64 digits of 0-9 and a-f"),
        ("urls", ["x.org/"], "urls: expected addresses with http:// or https://, found 'x.org/'"),
    ],
)
def test_a_wrong_entry_of_weights_is_named(
    project: Project, key: str, value: object, expected: str
) -> None:
    project.weights["own"] = {**project.weights["none"], "files": {"values": dict(FILE)}}
    project.params["model"]["weights"] = "own"
    project.save()
    assert catalogue.active_weights(catalogue.Weights)[0] == "own"
    change(project.weights["own"], key, value)
    project.save()
    with pytest.raises(UserError, match=f"^weights.yaml: .*{expected}") as caught:
        catalogue.active_weights(catalogue.Weights)
    assert "datasets.yaml" not in str(caught.value)


def test_the_entry_of_no_weights_has_no_file(project: Project) -> None:
    project.weights["none"]["files"] = {"values": FILE}
    project.save()
    with pytest.raises(UserError, match=r"weights\.yaml: none\.files: expected no file, found val"):
        catalogue.active_weights(catalogue.Weights)


def test_unknown_weights_get_the_known_ones_and_the_nearest(project: Project) -> None:
    project.params["model"]["weights"] = "nome"
    project.save()
    with pytest.raises(UserError) as caught:
        catalogue.active_weights(catalogue.Weights)
    assert str(caught.value) == (
        "params.yaml: model.weights: expected one of none; found 'nome'.\nDid you mean 'none'?"
    )
