"""What is read of dvc.yaml: commands that can be followed, and what is refused."""

import logging
from pathlib import Path

import pytest

from stages.lib.core import pipeline
from stages.lib.core.errors import UserError

COMMANDS = {
    "python -m stages.train": ("stages/train", []),
    "python3 -X dev -W error -m stages.train --fast": ("stages/train", ["--fast"]),
    "python -B stages/train.py a b": ("stages/train", ["a", "b"]),
    "/usr/bin/python3.11 -m stages.train": ("stages/train", []),
    r"C:\\Python\\python.exe -m stages.train": ("stages/train", []),
    "python --check-hash-based-pycs always -m stages.train": ("stages/train", []),
    "python stages/train": ("", []),
    "python -c 'import stages.train'": ("", []),
    "python -Im stages.train": ("", []),
    "python": ("", []),
    "python -m": ("", []),
    "sh run.sh": ("", []),
    "python -m stages.train && echo done": ("", []),
    "python -m stages.train > log": ("", []),
    "python -m stages.train `cat options`": ("", []),
    "python -m stages.train $(cat options)": ("", []),
    "python -m stages.train 'not closed": ("", []),
    "": ("", []),
}


def test_what_python_itself_is_given_is_followed() -> None:
    command = "python -O -W ignore --check-hash-based-pycs always -Xutf8 -m stages.train -O"
    words = ["-O", "-W", "ignore", "--check-hash-based-pycs", "always", "-Xutf8"]
    assert pipeline.options(command) == words
    assert pipeline.options("python -O run") == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_one_python_module_is_followed(command: str) -> None:
    assert (pipeline.module(command), pipeline.arguments(command)) == COMMANDS[command]
    assert pipeline.module([command]) == COMMANDS[command][0]
    assert pipeline.module([command, command]) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "dvc.yaml: expected a section"),
        ("stages: [a]", "dvc.yaml: stages: expected a section"),
        (
            "stages: {a: {cmd: x, params: [{f.yaml: key}]}}",
            "a.params: f.yaml: expected a list of keys, found key.",
        ),
    ],
)
def test_what_is_no_pipeline_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        pipeline.parse(text)
    assert message in str(caught.value)


@pytest.mark.parametrize("key", ["model.depth", "model.size.height", "nothing"])
def test_a_reference_to_no_key_is_refused(key: str) -> None:
    values = {"model": {"size": 3}}
    with pytest.raises(UserError, match=rf"dvc.yaml: \$\{{{key}\}}: params.yaml has no such key"):
        pipeline.resolve(f"stages/${{{key}}}.py", values)
    assert pipeline.resolve("a${model.size}b", values) == "a3b"
    assert pipeline.resolve(r"\${HOME}/${model.size}", values) == "${HOME}/3"
    assert pipeline.references("${a.b} ${c} ${a.b}") == ["a.b", "c"]


def test_a_reference_is_resolved_as_dvc_resolves_it() -> None:
    values = {"a": {"on": True, "list": [4, {"b": "x"}]}}
    assert pipeline.resolve("${a.on} ${a.list[0]} ${a.list[1].b}", values) == "true 4 x"
    with pytest.raises(UserError, match="has no such key"):
        pipeline.resolve("${a.list[2]}", values)


def test_values_that_come_from_elsewhere_make_a_stage_strange() -> None:
    text = "vars: [{a: 1}]\nstages: {one: {cmd: 'python -m stages.one ${a}'}}"
    assert pipeline.parse(text)["one"].strange == "vars"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema: '2.0'\n<<<<<<< HEAD\nstages: {}\n", "found the markers of a merge"),
        ("", "not as DVC writes it"),
        ("stages: [a]", "not as DVC writes it"),
        ("stages: {a: {outs: [b]}}", "not as DVC writes it"),
    ],
)
def test_a_lock_that_dvc_did_not_write_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "dvc.lock").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=f"dvc.lock: .*{said}"):
        pipeline.load_lock(tmp_path)


def test_texts_that_dvc_writes_bare_are_texts(tmp_path: Path) -> None:
    from dvc.utils.serialize import dumps_yaml  # type: ignore[import-untyped]

    values = ["4:3", "12:30", "_1", "2024-1-1", "2024-05-01 Smith", "1e3", "010", "2024-05-01"]
    lock = {"stages": {"a": {"params": {"params.yaml": {"names": values}}}}}
    (tmp_path / "dvc.lock").write_text(dumps_yaml(lock), encoding="utf-8")
    assert pipeline.load_lock(tmp_path)["a"].params == {("params.yaml", "names"): values}


def test_paths_of_a_lock_are_plain(tmp_path: Path) -> None:
    text = "stages: {a: {outs: [{path: b/, md5: c}], deps: [{path: ./d/, md5: e}]}}"
    (tmp_path / "dvc.lock").write_text(text, encoding="utf-8")
    found = pipeline.load_lock(tmp_path)["a"]
    assert (found.outs, found.deps) == ({"b": "c"}, {"d": "e"})


def test_what_is_ignored_is_what_dvc_leaves_out_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # DVC's log goes to the standard output of the test that imported DVC first
    monkeypatch.setattr(logging.root.manager, "disable", logging.INFO)
    repo_module, ignore = pytest.importorskip("dvc.repo"), pytest.importorskip("dvc.ignore")
    repository = repo_module.Repo.init(tmp_path, no_scm=True)
    texts = {
        ".dvcignore": "*.log\n/data/top.txt\n!put.txt\nscratch/\n",
        "data/.dvcignore": "/only.txt\ndeep/*.tmp\n!put.log\n!deep/\n",
        "data/deep/.dvcignore": "*.bak\n",
    }
    names = (
        *("a.log", "put.log", "top.txt", "only.txt", "a.tmp", "a.bak", "a.txt", "scratch/a.txt"),
        *("scratch/put.txt", "scratch/deep/put.log", ".git/x"),
    )
    folders = ("data/", "data/deep/", "data/deep/deeper/")
    texts |= {folder + name: "" for folder in folders for name in names}
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    walk = ignore.DvcIgnoreFilter(repository.fs, str(tmp_path)).walk
    found = {
        Path(place, name).relative_to(tmp_path).as_posix()
        for place, _, below in walk(repository.fs, str(tmp_path / "data"))
        for name in below
    }
    ours = pipeline.ignored(tmp_path)
    files = [folder + name for folder in folders for name in names]
    assert {name for name in files if not ours(name)} == found & set(files)
    assert sum(map(ours, files)) == 7 + 4 + 3  # by folder, as counted by hand
