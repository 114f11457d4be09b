"""Every key and every source file, changed one by one: which stages does `dvc repro` run?

The keys come from params.yaml, the catalogues and environment.yaml, the files from stages/. What is
expected comes from observation: the parameters that are read with a stage's settings, the modules
that Python imports when it runs. What happens is DVC's: a real `dvc repro`, with stages that do
nothing but write their outs, and then for each change what `dvc repro --dry` would run.
"""

import copy
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.audit import configuration, observed, sources

ROOT = Path(__file__).parents[1]
STAGES = ["download", "normalize", "train", "evaluate", "plot"]
FILES = ["params.yaml", "datasets.yaml", "weights.yaml", "environment.yaml"]

STUB = """
import os, sys
for path in sys.argv[1:]:
    file = path if os.path.splitext(path)[1] else path + "/file"
    os.makedirs(os.path.dirname(file), exist_ok=True)
    with open(file, "w") as stream:
        stream.write("{}")
"""

DRIVER = """
import json, pathlib, sys
from dvc.repo import Repo
repo = Repo()
def reproduce(dry):
    return sorted(stage.name for stage in repo.reproduce(dry=dry))
result = {"first": reproduce(False), "again": reproduce(False)}
for case in json.loads(pathlib.Path("cases.json").read_text(encoding="utf-8")):
    before = {name: pathlib.Path(name).read_bytes() for name in case["files"]}
    for name, content in case["files"].items():
        pathlib.Path(name).write_text(content, encoding="utf-8")
    result |= dict.fromkeys(case["names"], reproduce(True))
    for name, content in before.items():
        pathlib.Path(name).write_bytes(content)
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


def with_changes(content: dict[str, Any], paths: Iterable[tuple[str, ...]]) -> str:
    """The text of a file in which the values at these paths are others, or new ones."""
    content = copy.deepcopy(content)
    for path in paths:
        section = content
        for name in path[:-1]:
            section = section[name]
        section[path[-1]] = changed(section[path[-1]]) if path[-1] in section else "a value"
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


def changes() -> dict[str, tuple[str, tuple[str, ...]]]:
    """By name, file and path of each key, and each source file with no path."""
    keys = [(file, path) for file in FILES for path in leaves(read(file))]
    keys += [("params.yaml", path) for path in left_out()]
    code = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "stages").rglob("*.py"))]
    return {f"{file}: {'.'.join(path)}": (file, path) for file, path in keys} | {
        file: (file, ()) for file in code
    }


def cases(table: Mapping[str, list[str]]) -> Iterator[dict[str, Any]]:
    """Changes one by one, but for those that are to run no stage, which are made at once.

    Args:
        table: The stages that each change is to run, by its name.
    """
    idle = [name for name, stages in table.items() if not stages]
    for names in [idle, *([name] for name in table if table[name])]:
        paths: dict[str, list[tuple[str, ...]]] = {}
        for file, path in (changes()[name] for name in names):
            paths.setdefault(file, []).append(path)
        files = {
            file: with_changes(read(file), each)
            if file in FILES
            else (ROOT / file).read_text(encoding="utf-8") + "\n# a comment\n"
            for file, each in paths.items()
        }
        yield {"names": names, "files": files}


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
def table(run: Callable[..., Any]) -> dict[str, list[str]]:
    """The stages that every change has to run."""
    readers, importers = readers_by_key(), importers_by_file(run)
    return {name: sorted(expected(name, readers, importers)) for name in changes()}


@pytest.fixture(scope="module")
def happened(
    _committed: Path,
    tmp_path_factory: pytest.TempPathFactory,
    run: Callable[..., Any],
    table: dict[str, list[str]],
) -> dict[str, list[str]]:
    """The stages that ran for every change."""
    path = tmp_path_factory.mktemp("exactness") / "repository"
    shutil.copytree(_committed, path)
    (path / "dvc.lock").unlink(missing_ok=True)
    (path / "stub.py").write_text(STUB, encoding="utf-8")
    (path / "cases.json").write_text(json.dumps([*cases(table)]), encoding="utf-8")
    pipeline = yaml.safe_load((path / "dvc.yaml").read_text(encoding="utf-8"))
    for stage in pipeline["stages"].values():
        outs = [out for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]
        names = [out if isinstance(out, str) else next(iter(out)) for out in outs]
        stage["cmd"] = f"python -I -S stub.py {' '.join(names)}"
    (path / "dvc.yaml").write_text(yaml.safe_dump(pipeline), encoding="utf-8")
    done = run([sys.executable, "-c", DRIVER], path)
    assert done.code == 0, done.err
    result: dict[str, list[str]] = json.loads((path / "result.json").read_text(encoding="utf-8"))
    return result


@pytest.mark.slow
def test_every_change_runs_exactly_the_stages_that_read_it(
    happened: dict[str, list[str]], table: dict[str, list[str]]
) -> None:
    assert happened["first"] == sorted(STAGES)
    assert happened["again"] == []
    assert len(table) > 100
    assert "params.yaml: train.keep" in table  # which params.yaml does without
    assert {name: happened[name] for name in table} == table


def test_a_new_key_or_file_without_a_reader_is_noticed() -> None:
    with pytest.raises(AssertionError, match="no stage reads it"):
        expected("params.yaml: train.momentun", {"params.yaml: plot": {"plot"}}, {})
    with pytest.raises(AssertionError, match="no stage imports it"):
        expected("stages/lib/orphan.py", {}, {})
