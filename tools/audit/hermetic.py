"""Every stage in a folder that holds its deps alone: the outputs have to be the same bytes."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.lib.core import config, pipeline, recorded
from stages.lib.core.pipeline import Stage
from tools.audit import configuration
from tools.audit.finding import Finding

# The environment that a stage may depend on by design: see README and docs/audit.md
ALLOWED = ("PATH", "SYSTEMROOT", "LANG", "LC_ALL", "DATASET_CACHE", "DATASET_MIRROR", "TF_CONFIG")
RUNNER = """
import json, runpy, sys
from pathlib import Path
sys.orig_argv = [sys.executable, "-m", sys.argv[2]]
sys.path[0] = str(Path.cwd())
from stages.lib.core import enforcement
record = Path(sys.argv[1])
try:
    runpy.run_module(sys.argv[2], run_name="__main__", alter_sys=True)
finally:
    names = sorted({touch.name for touch in enforcement.touched() if touch.kind != "param"})
    record.write_text(json.dumps(names), encoding="utf-8")
"""


def check(root: Path) -> tuple[list[Finding], list[str]]:
    """The stages that fail so, or make other outputs, and notes on what was not touched.

    The pipeline has to be up to date: the outputs that are there are compared with.
    """
    params = configuration.load(root, config.PARAMS)
    findings: list[Finding] = []
    notes: list[str] = []
    for name, declared in pipeline.load(root).items():
        if not declared.module or declared.strange:
            findings.append(
                Finding(name, "its cmd cannot be followed", "write `python -m stages.NAME`")
            )
            continue
        stage = declared.resolved(params)
        with tempfile.TemporaryDirectory() as folder:
            findings += _run(root, Path(folder), stage, notes)
    return findings, notes


def _run(root: Path, folder: Path, stage: Stage, notes: list[str]) -> Iterator[Finding]:
    room, home = folder / "room", folder / "home"
    home.mkdir()
    missing = [dep for dep in stage.deps if not (root / dep).exists()]
    missing += [out.path for out in stage.outs if not (root / out.path).exists()]
    if missing:
        yield Finding(stage.name, f"{missing[0]} is not there to compare with", "run `dvc repro`")
        return
    _furnish(root, room, stage)
    environment = {name: os.environ[name] for name in ALLOWED if name in os.environ}
    environment |= {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}
    command = [
        sys.executable,
        "-c",
        RUNNER,
        str(folder / "touched"),
        stage.module.replace("/", "."),
    ]
    if not stage.network and _can_unshare():
        command = ["unshare", "--net", "--map-root-user", *command]
    done = subprocess.run(  # noqa: S603 a stage of dvc.yaml
        command, cwd=room, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        start = next((line for line in lines if line.startswith("ERROR: ")), lines[-1])
        yield Finding(
            stage.name,
            f"fails with its deps alone: {start.removeprefix('ERROR: ')}",
            "declare what it reads",
        )
        return
    for out in stage.outs:
        for path in _differing(root / out.path, room / out.path):
            yield Finding(
                stage.name,
                f"makes another {(Path(out.path) / path).as_posix()} of its deps alone",
                "declare what it reads; where nothing is missing, run `dvc repro`",
            )
    seen = set(json.loads((folder / "touched").read_text(encoding="utf-8")))
    notes += [
        f"{stage.name}: {dep} was not touched by Python in this run"
        for dep in stage.deps
        if not any(pipeline.within(name, dep) for name in seen)
    ]


def _furnish(root: Path, room: Path, stage: Stage) -> None:
    """Copies the deps, the files of parameters with the declared keys alone, and dvc.yaml."""
    for dep in stage.deps:
        (room / dep).parent.mkdir(parents=True, exist_ok=True)
        if (root / dep).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "*.tmp")
            shutil.copytree(root / dep, room / dep, ignore=ignore, dirs_exist_ok=True)
        else:
            shutil.copyfile(root / dep, room / dep)
    shutil.copyfile(root / pipeline.FILE, room / pipeline.FILE)
    for file in dict.fromkeys([config.PARAMS, *(file for file, _ in stage.params)]):
        content = configuration.load(root, file)
        keys = [key for name, key in stage.params if name == file]
        pruned = content if "" in keys else _pruned(content, keys)
        if file == config.PARAMS:  # dvc.yaml's ${...} are resolved while the stage runs
            pruned = _with_templates(root, pruned, content)
        if file == config.DATASETS:  # entries are checked as a whole: others' values are changed
            pruned = _disguised(content, pruned)
        (room / file).write_text(configuration.text(pruned), encoding="utf-8")


def _pruned(content: Mapping[str, Any], keys: list[str]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key in keys:
        if configuration.has(content, key):
            *parents, last = key.split(".")
            node = kept
            for part in parents:
                node = node.setdefault(part, {})
            node[last] = pipeline.lookup(content, key)
    return kept


def _with_templates(
    root: Path, pruned: dict[str, Any], content: Mapping[str, Any]
) -> dict[str, Any]:
    text = (root / pipeline.FILE).read_text(encoding="utf-8")
    keys = pipeline.references(text)
    for key, value in zip(keys, (pipeline.lookup(content, key) for key in keys), strict=True):
        if not configuration.has(pruned, key):
            *parents, last = key.split(".")
            node = pruned
            for part in parents:
                node = node.setdefault(part, {})
            node[last] = value
    return pruned


def _disguised(content: Mapping[str, Any], pruned: Mapping[str, Any]) -> dict[str, Any]:
    """The declared entries, with free texts that are not declared turned round."""
    entries: dict[str, Any] = {}
    for name, entry in pruned.items():
        whole = dict(content[name]) if isinstance(content[name], dict) else content[name]
        if isinstance(whole, dict) and isinstance(entry, dict):
            for key in ("title", "licence", "citation"):
                if key in whole and key not in entry:
                    whole[key] = str(whole[key])[::-1]
        entries[name] = whole
    return entries


def _differing(real: Path, made: Path) -> Iterator[str]:
    """The files that are not the same on both sides, relative to the out."""
    if real.is_file():
        if recorded.md5(real) != recorded.md5(made):
            yield ""
        return
    names = {
        path.relative_to(side).as_posix()
        for side in (real, made)
        for path in side.rglob("*")
        if path.is_file()
    }
    for name in sorted(names):
        if recorded.md5(real / name) != recorded.md5(made / name):
            yield name


def _can_unshare() -> bool:
    if not shutil.which("unshare"):
        return False
    command = ["unshare", "--net", "--map-root-user", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603
