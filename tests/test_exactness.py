"""Every key and every source file, changed one by one: which stages does `dvc repro` run?

The keys come from params.yaml, the catalogues and environment.yaml, the files from stages/. What is
expected comes from observation: the parameters that are read with a stage's settings, the modules
that Python imports when it runs. What happens is DVC's: real `dvc repro`, with stages that do
nothing but write the same outs, so that only what a change itself reaches runs.
"""

import copy
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.audit import configuration, observed, sources

ROOT = Path(__file__).parents[1]
STAGES = ["download", "normalize", "train", "evaluate", "plot"]
FILES = ["params.yaml", "datasets.yaml", "weights.yaml", "environment.yaml"]

STUB = """
import pathlib, sys, yaml
stage = yaml.safe_load(open("dvc.yaml", encoding="utf-8"))["stages"][sys.argv[1]]
for out in [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]:
    path = pathlib.Path(out if isinstance(out, str) else next(iter(out)))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix:
        path.write_text("{}")
    else:
        path.mkdir(exist_ok=True)
        (path / "file").write_text("constant")
"""

DRIVER = """
import json, pathlib, sys
from dvc.repo import Repo
def reproduce():
    with Repo() as repo:
        return sorted(stage.name for stage in repo.reproduce())
result = {"first": reproduce(), "again": reproduce()}
lock = pathlib.Path("dvc.lock").read_bytes()
for case in json.loads(pathlib.Path("cases.json").read_text(encoding="utf-8")):
    path = pathlib.Path(case["file"])
    before = path.read_bytes()
    path.write_text(case["content"], encoding="utf-8")
    result[case["name"]] = reproduce()
    path.write_bytes(before)
    pathlib.Path("dvc.lock").write_bytes(lock)
pathlib.Path("result.json").write_text(json.dumps(result), encoding="utf-8")
"""

IMPORTED = """
import importlib, sys
from unittest import mock
for name in ("keras", "tensorflow"):
    sys.modules[name] = mock.MagicMock()
importlib.import_module("stages." + sys.argv[1]).read_settings()
modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "stages"]
print("\\n".join(filter(None, (getattr(module, "__file__", None) for module in modules))))
"""


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return content


PARAMS = read("params.yaml")
ACTIVE = {
    "dataset": PARAMS["dataset"],
    "model.architecture": PARAMS["model"]["architecture"],
    "model.weights": PARAMS["model"]["weights"],
}
MODELS = [path.stem for path in (ROOT / "stages/models").glob("*.py")]
ENTRIES = {"datasets.yaml": ACTIVE["dataset"], "weights.yaml": ACTIVE["model.weights"]}


def leaves(content: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths to all values that are no sections."""
    if not isinstance(content, dict):
        yield path
    else:
        for name, value in content.items():
            yield from leaves(value, (*path, name))


def changed(value: Any) -> Any:
    """Another value of the same kind."""
    if value in ACTIVE.values():
        return {"digits": "mnist", "mlp": "cnn", "none": "convnext_tiny"}[value]
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return [*value, "one more"] if isinstance(value, list) else f"{value}x"


def with_change(content: dict[str, Any], path: tuple[str, ...]) -> str:
    value: Any = content
    for name in path:
        value = value[name]
    return with_value(content, path, changed(value))


def with_value(content: dict[str, Any], path: tuple[str, ...], value: Any) -> str:
    content = copy.deepcopy(content)
    section = content
    for name in path[:-1]:
        section = section[name]
    section[path[-1]] = value
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False)


def left_out() -> Iterator[tuple[str, ...]]:
    """The paths to all keys that the schema of params.yaml knows and the file does without."""

    def walk(
        schema: dict[str, Any], content: Any, path: tuple[str, ...]
    ) -> Iterator[tuple[str, ...]]:
        for name, inner in schema.get("properties", {}).items():
            if name in content:
                yield from walk(inner, content[name], (*path, name))
            else:
                yield (*path, name)

    schema = json.loads((ROOT / "schemas/params.schema.json").read_text(encoding="utf-8"))
    yield from walk(schema, PARAMS, ())


def cases() -> list[dict[str, str]]:
    """One change of each key and of each source file."""
    keys = [
        {
            "name": f"{file}: {'.'.join(path)}",
            "file": file,
            "content": with_change(read(file), path),
        }
        for file in FILES
        for path in leaves(read(file))
    ]
    keys += [
        {
            "name": f"params.yaml: {'.'.join(path)}",
            "file": "params.yaml",
            "content": with_value(PARAMS, path, "a value"),
        }
        for path in left_out()
    ]
    code = sorted((ROOT / "stages").rglob("*.py"))
    return keys + [
        {
            "name": path.relative_to(ROOT).as_posix(),
            "file": path.relative_to(ROOT).as_posix(),
            "content": path.read_text(encoding="utf-8") + "\n# a comment\n",
        }
        for path in code
    ]


def readers_by_key() -> dict[str, set[str]]:
    """The stages that read each key or section, by reading their settings."""
    text = configuration.text(PARAMS)
    commands = {stage: [f"stages/{stage}"] for stage in STAGES}
    seen = observed.observe(ROOT, commands, {"params.yaml": text}, ())["params.yaml"]
    readers: dict[str, set[str]] = {}
    for stage in STAGES:
        assert not seen[stage].error
        for file, key in seen[stage].params:
            readers.setdefault(f"{file}: {key}", set()).add(stage)
    return readers


def importers_by_file(run: Callable[..., Any]) -> dict[str, set[str]]:
    """The stages that import each source file, at once or later."""
    importers: dict[str, set[str]] = {}
    code = sources.Sources(ROOT)
    for stage in STAGES:
        done = run([sys.executable, "-c", IMPORTED, stage], ROOT)
        assert done.code == 0, done.err
        loaded = [Path(line).relative_to(ROOT).as_posix() for line in done.out.splitlines()]
        for file in {*loaded, *code.closure(loaded).files}:  # some is imported when it has work
            importers.setdefault(file, set()).add(stage)
    return importers


def expected(name: str, readers: dict[str, set[str]], importers: dict[str, set[str]]) -> set[str]:
    """The stages that a change has to run; fails for a key or file that nothing accounts for."""
    if ": " not in name:
        inactive = name.startswith("stages/models/") and name not in importers
        assert inactive or name in importers, f"{name}: no stage imports it"
        return importers.get(name, set())
    file, key = name.split(": ")
    parts = key.split(".")
    prefixes = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
    found = set().union(*(readers.get(f"{file}: {prefix}", set()) for prefix in prefixes))
    inactive = (file in ENTRIES and parts[0] != ENTRIES[file]) or (
        parts[0] == "model" and parts[1] in MODELS and parts[1] != ACTIVE["model.architecture"]
    )
    assert found or inactive, f"{name}: no stage reads it"
    return found


@pytest.fixture(scope="module")
def happened(
    _committed: Path, tmp_path_factory: pytest.TempPathFactory, run: Callable[..., Any]
) -> dict[str, list[str]]:
    """The stages that ran for every change."""
    path = tmp_path_factory.mktemp("exactness") / "repository"
    shutil.copytree(_committed, path)
    (path / "dvc.lock").unlink(missing_ok=True)
    (path / "stub.py").write_text(STUB, encoding="utf-8")
    (path / "cases.json").write_text(json.dumps(cases()), encoding="utf-8")
    pipeline = (path / "dvc.yaml").read_text(encoding="utf-8")
    pipeline = re.sub(r"cmd: python -m stages\.", "cmd: python stub.py ", pipeline)
    (path / "dvc.yaml").write_text(pipeline, encoding="utf-8")
    done = run([sys.executable, "-c", DRIVER], path)
    assert done.code == 0, done.err
    result: dict[str, list[str]] = json.loads((path / "result.json").read_text(encoding="utf-8"))
    return result


@pytest.mark.slow
def test_every_change_runs_exactly_the_stages_that_read_it(
    happened: dict[str, list[str]], run: Callable[..., Any]
) -> None:
    readers, importers = readers_by_key(), importers_by_file(run)
    assert happened["first"] == sorted(STAGES)
    assert happened["again"] == []
    names = [case["name"] for case in cases()]
    assert len(names) > 100
    assert "params.yaml: train.keep" in names  # which params.yaml does without
    table = {name: sorted(expected(name, readers, importers)) for name in names}
    assert {name: happened[name] for name in names} == table


def test_a_new_key_or_file_without_a_reader_is_noticed() -> None:
    with pytest.raises(AssertionError, match="no stage reads it"):
        expected("params.yaml: train.momentun", {"params.yaml: plot": {"plot"}}, {})
    with pytest.raises(AssertionError, match="no stage imports it"):
        expected("stages/lib/orphan.py", {}, {})
