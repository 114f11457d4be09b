"""Every stage in a folder that holds its deps alone: the outputs have to be the same bytes."""

import json
import os
import shutil
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from stages.lib.core import config, enforcement, pipeline, recorded
from stages.lib.core.pipeline import Stage
from tools.audit import configuration, libraries
from tools.audit.finding import Finding

# The environment that a stage may depend on by design: see README and docs/audit.md
ALLOWED = ("PATH", "SYSTEMROOT", "TF_CONFIG")
DATA = ("DATASET_CACHE", "DATASET_MIRROR")  # for a stage that may connect


def check(root: Path) -> tuple[list[Finding], list[str]]:
    """The stages that fail so, or make other outputs, and notes on what was not touched.

    The pipeline has to be up to date: the outputs that are there are compared with.
    """
    params = configuration.load(root, config.PARAMS)
    pins = libraries.pins(root)
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
            findings += _run(root, Path(folder).resolve(), stage, pins, notes)
    return list(dict.fromkeys(findings)), notes


def _run(
    root: Path, folder: Path, stage: Stage, pins: Mapping[str, str], notes: list[str]
) -> Iterator[Finding]:
    room, home = folder / "room", folder / "home"
    home.mkdir()
    missing = [dep for dep in stage.deps if not (root / dep).exists()]
    missing += [out.path for out in stage.outs if not (root / out.path).exists()]
    if missing:
        yield Finding(stage.name, f"{missing[0]} is not there to compare with", "run `dvc repro`")
        return
    _furnish(root, room, stage)
    before = _state(room)
    runner = Path(__file__).with_name("room.py")
    options = pipeline.options(stage.command)
    apart = _apart(stage.network)
    command = [*apart, sys.executable, *options, str(runner), str(folder / "seen")]
    command += ["apart" if apart else "here", stage.module.replace("/", ".")]
    command += pipeline.arguments(stage.command)
    done = subprocess.run(  # noqa: S603 a stage of dvc.yaml
        command,
        cwd=room,
        env=_environment(home, stage),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",  # a stage may write any bytes
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        errors = [at for at, line in enumerate(lines) if line.startswith("ERROR: ")]
        told = lines[errors[0] :] if errors else lines[-1:]
        why, step, *_ = (line.rstrip(".") for line in (*told, "declare what it reads"))
        what = f"fails with its deps alone: {why.removeprefix('ERROR: ')}"
        yield Finding(stage.name, what, step)
        return
    for out in stage.outs:
        for path in _differing(root, room, out.path):
            yield Finding(
                stage.name,
                f"makes another {(Path(out.path) / path).as_posix()} of its deps alone",
                f"declare what it reads; where nothing is missing, `dvc repro -f -s {stage.name}`",
            )
    after, free = _state(room), (*(out.path for out in stage.outs), *enforcement.OWN)
    for name in sorted({*before, *after}):
        own = any(pipeline.within(name, place) for place in free)
        if before.get(name) != after.get(name) and not own:
            what = f"writes {name}, undeclared"
            yield Finding(stage.name, what, f"add `- {name}` to its outs, or do not write it")
    seen = json.loads((folder / "seen").read_text(encoding="utf-8"))
    known = [room / dep for dep in stage.deps if _elsewhere(dep)]
    if stage.network:
        known.append(root / enforcement.PINNED)  # a link leads there from the room
    for path in seen["outside"]:
        if any(Path(path).is_relative_to(folder.resolve()) for folder in known):
            continue
        yield Finding(
            stage.name,
            f"opens {path}, which is outside the repository",
            f"add `- {path}` to its deps, which may lie elsewhere, or bring it in",
        )
    yield from _loaded(seen["modules"], stage, pins)
    notes += [
        f"{stage.name}: {dep} was not touched by Python in this run"
        for dep in stage.deps
        if not _elsewhere(dep) and not any(pipeline.within(name, dep) for name in seen["touched"])
    ]


def _state(room: Path) -> dict[str, tuple[int, int]]:
    """The size and time of each file of a room but compiled code."""
    paths = (path for path in room.rglob("*") if path.is_file() and path.suffix != ".pyc")
    states = ((path.relative_to(room).as_posix(), path.stat()) for path in paths)
    return {name: (state.st_size, state.st_mtime_ns) for name, state in states}


def _loaded(files: Sequence[str], stage: Stage, pins: Mapping[str, str]) -> Iterator[Finding]:
    """Installed libraries that it had loaded when it ended, and that it does not declare."""
    declared = {key for file, key in stage.params if file == libraries.ENVIRONMENT}
    known = declared | libraries.WITHOUT_INFLUENCE
    if "keras" in declared:
        known |= libraries.BY_KERAS
    for name, file in libraries.loaded(files).items():
        if not name:
            what = f"loads {file}, which no installed package holds"
            yield Finding(stage.name, what, "bring it into the repository, or install it")
        elif name not in known and "" not in declared:
            yield Finding(
                stage.name,
                f"loads {name}, undeclared",
                f'add "{name}" to versions.require in {stage.module}.py, to {libraries.ENVIRONMENT}'
                f" and to its params in {pipeline.FILE}",
            )
        elif name in pins and (version := libraries.version(name)) != pins[name]:
            what = f"loads {name} {version}, pinned is {pins[name]}"
            yield Finding(stage.name, what, f"run `pip install -r {libraries.REQUIREMENTS}`")


def _environment(home: Path, stage: Stage) -> dict[str, str]:
    """Another environment than that of whoever runs the audit, as far as nothing may depend on it.

    Another home, another language, and a clock that is about a day away.
    """
    names = (*ALLOWED, *DATA) if stage.network else ALLOWED
    spoken = {os.environ.get(name) for name in ("LC_ALL", "LANG")}
    language = "POSIX" if "C.UTF-8" in spoken else "C.UTF-8"
    return {name: os.environ[name] for name in names if name in os.environ} | {
        "HOME": str(home),
        "LANG": language,
        "LC_ALL": language,
        "PATH": os.pathsep.join([os.environ.get("PATH", os.defpath), str(home)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUSERBASE": site.getuserbase(),
        "PYTHONUTF8": "1",
        "TMPDIR": str(home),
        "TZ": _zone(),
    }


def _zone() -> str:
    """A time zone in which it is another day, and another hour."""
    there = time.gmtime(time.time() - 22.5 * 3600)
    return "ROOM+22:30" if there.tm_yday != time.localtime().tm_yday else "ROOM-22:30"


def _elsewhere(dep: str) -> bool:
    """Whether a dep lies outside the repository."""
    return Path(dep).is_absolute() or dep.startswith("../")


def _furnish(root: Path, room: Path, stage: Stage) -> None:
    """Copies the deps, the files of parameters with the declared keys alone, and dvc.yaml."""
    if stage.network and (root / enforcement.PINNED).is_dir():
        (room / enforcement.PINNED).parent.mkdir(parents=True)
        (room / enforcement.PINNED).symlink_to(root / enforcement.PINNED)
    for dep in stage.deps:
        if Path(dep).is_absolute():
            continue  # it lies outside, and is read there
        (room / dep).parent.mkdir(parents=True, exist_ok=True)
        if (root / dep).is_dir():  # copies with time stamps of their own
            shutil.copytree(
                root / dep,
                room / dep,
                ignore=partial(_idle, root),
                copy_function=shutil.copyfile,
                ignore_dangling_symlinks=True,
                dirs_exist_ok=True,
            )
            _remove_empty(room / dep)
        else:
            shutil.copyfile(root / dep, room / dep)
    shutil.copyfile(root / pipeline.FILE, room / pipeline.FILE)
    for file in dict.fromkeys([config.PARAMS, *(file for file, _ in stage.params)]):
        if file in stage.deps:
            continue  # all of it
        keys = [key for name, key in stage.params if name == file]
        (room / file).parent.mkdir(parents=True, exist_ok=True)
        if "" in keys and file not in enforcement.CONFIGURATION:
            shutil.copyfile(root / file, room / file)
            continue
        content = configuration.load(root, file)
        whole = "" in keys
        if file == config.PARAMS:  # dvc.yaml's ${...} are resolved while the stage runs
            keys += pipeline.references((root / pipeline.FILE).read_text(encoding="utf-8"))
        pruned = content if whole else _pruned(content, keys)
        if (
            file in enforcement.CATALOGUES
        ):  # entries are checked as a whole: others' values are changed
            pruned = _disguised(content, pruned)
        (room / file).write_text(configuration.text(pruned), encoding="utf-8")


def _remove_empty(folder: Path) -> None:
    """Removes folders without a file, of which DVC knows nothing."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _idle(root: Path, folder: str, names: list[str]) -> list[str]:
    """What DVC does not hash of a dep: folders that are links, and what .dvcignore names."""
    ignored = pipeline.ignored(root)
    paths = {name: Path(folder, name) for name in names}
    return [
        name
        for name, path in paths.items()
        if (path.is_symlink() and path.is_dir())
        or ignored(os.path.relpath(path, root).replace(os.sep, "/") + "/" * path.is_dir())
    ]


def _pruned(content: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """The keys alone, those that are there."""
    pruned: dict[str, Any] = {}
    for key in sorted(key for key in keys if configuration.has(content, key)):
        *parents, last = key.split(".")
        node = pruned
        for part in parents:
            node = node.setdefault(part, {})
        node.setdefault(last, pipeline.lookup(content, key))
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


def _differing(root: Path, room: Path, out: str) -> Iterator[str]:
    """The files that DVC hashes and that are not the same on both sides, relative to the out."""
    real, made = root / out, room / out
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
    ignored = pipeline.ignored(root)
    for name in sorted(names):
        if ignored(f"{out}/{name}"):
            continue
        if recorded.md5(real / name) != recorded.md5(made / name):
            yield name


def _apart(network: bool) -> list[str]:
    """The words before a command that let it rename its host, and leave it without a network.

    None where the system does not allow it.

    Args:
        network: Whether it keeps the network.
    """
    words = ["unshare", "--uts", "--map-root-user", *([] if network else ["--net"])]
    if not shutil.which("unshare"):
        return []
    done = subprocess.run([*words, "true"], capture_output=True, check=False)  # noqa: S603
    return [] if done.returncode else words
