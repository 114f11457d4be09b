"""What DVC knows: outputs of any revision, which stages are out of date, which ones ran."""

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.lib.core import files, pipeline, yaml_file
from stages.lib.core.errors import UserError
from tools.audit import lock as audit
from tools.lib.git import git

FROZEN = "it is frozen"
_ABSENT = ("deleted", "not in cache")  # an output that was not checked out; says nothing about age


@dataclass(frozen=True)
class Stage:
    """A stage as dvc.lock recorded it.

    Attributes:
        inputs: Hash or value by name: the command, each path and each parameter.
        outputs: Hash by path.
        sizes: Bytes by path of output, where DVC says.
    """

    inputs: dict[str, object]
    outputs: dict[str, str]
    sizes: dict[str, int] = field(default_factory=dict)


Lock = dict[str, Stage]


@dataclass(frozen=True)
class Change:
    """What became of a stage between two sides.

    Attributes:
        stage: Its name.
        state: ``unchanged``, ``ran``, ``pending``, ``added``, ``removed``, ``other result``.
        causes: The inputs that differ.
    """

    stage: str
    state: str
    causes: list[str]


def flatten(mapping: dict[str, Any], prefix: str = "") -> dict[str, object]:
    """The values of nested mappings by dotted key; lists are values."""
    flat: dict[str, object] = {}
    for key, value in mapping.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def lock(stages: Mapping[str, Any]) -> Lock:
    """The stages of the section ``stages`` of a dvc.lock."""
    return {str(name): stage(entry) for name, entry in stages.items() if isinstance(entry, dict)}


def read_lock(path: Path) -> Lock:
    """The stages of a dvc.lock.

    Raises:
        UserError: There is none, or it is not one.
    """
    try:
        return lock(pipeline.lock_stages(path, path.as_posix()))
    except FileNotFoundError:
        raise UserError(f"{path.as_posix()}: not found") from None


def parse(text: str, path: Path) -> dict[str, Any]:
    """The mapping that a YAML file of DVC's holds.

    Raises:
        UserError: It is not valid, or holds something else.
    """
    content = yaml_file.parse(text, path.as_posix(), by_dvc=True)
    return content if isinstance(content, dict) else {}


def stage(entry: Mapping[str, Any]) -> Stage:
    """A stage as DVC recorded it, in dvc.lock or in the run cache."""
    inputs: dict[str, object] = {"the command": entry.get("cmd")}
    for dep in entry.get("deps", ()):
        inputs[str(dep["path"])] = dep.get("md5")
    for file, values in entry.get("params", {}).items():
        prefix = "" if file == "params.yaml" else f"{file}: "
        inputs |= {f"{prefix}{key}": value for key, value in flatten(values).items()}
    outs = entry.get("outs", ())
    return Stage(
        inputs,
        outputs={str(out["path"]): str(out.get("md5", "")) for out in outs},
        sizes={str(out["path"]): int(out["size"]) for out in outs if "size" in out},
    )


def output(found: Lock, path: str) -> str | None:
    """The hash of an output, if the lock has one."""
    return (
        next((stage.outputs[path] for stage in found.values() if path in stage.outputs), None)
        or None
    )


def behind(found: Lock, path: str) -> set[str]:
    """The stages that an output depends on, the one that makes it among them."""
    makers: set[str] = set()
    waiting = [path]
    while waiting:
        wanted = waiting.pop()
        for name, stage in found.items():
            near = (
                pipeline.within(wanted, out) or pipeline.within(out, wanted)
                for out in stage.outputs
            )
            if name not in makers and any(near):
                makers.add(name)
                waiting += stage.inputs
    return makers


def size(found: Lock, path: str) -> int | None:
    """The bytes of an output, if the lock says."""
    return next((stage.sizes[path] for stage in found.values() if path in stage.sizes), None)


def changes(before: Lock, after: Lock, pending_now: Mapping[str, list[str]]) -> list[Change]:
    """What became of each stage, in the order of the later lock."""
    names = [*after, *(name for name in before if name not in after)]
    names += [name for name in pending_now if name not in names]
    return [_change(name, before.get(name), after.get(name), pending_now) for name in names]


def _change(
    name: str, before: Stage | None, after: Stage | None, pending_now: Mapping[str, list[str]]
) -> Change:
    if name in pending_now:
        return Change(name, "pending", pending_now[name])
    if before is None or after is None:
        return Change(name, "removed" if before else "added", [])
    keys = sorted({*before.inputs, *after.inputs})
    missing = object()
    causes = [
        key for key in keys if before.inputs.get(key, missing) != after.inputs.get(key, missing)
    ]
    if causes:
        return Change(name, "ran", causes)
    return Change(name, "unchanged" if before.outputs == after.outputs else "other result", [])


def pending(folder: Path) -> dict[str, list[str]]:
    """The stages that DVC would run in a folder of the project, each with what changed.

    Those that it would run if they were not frozen too, of which the first thing told is FROZEN.
    Outputs that were not checked out do not count: their hashes are in dvc.lock.

    Raises:
        UserError: DVC cannot say.
    """
    from dvc.repo import Repo  # type: ignore[import-untyped] # half a second

    logging.getLogger("dvc.repo.status").setLevel(logging.ERROR)  # of frozen ones it says less
    here = folder.resolve() == Path.cwd().resolve()
    apart = {"core": {"no_scm": True, "site_cache_dir": str(folder / ".dvc" / "site")}}
    try:
        with Repo(str(folder), config={} if here else apart) as repo:
            status = repo.status()
    except Exception as error:  # whatever DVC, Git or a file system says
        raise UserError(f"DVC cannot say which stages are out of date: {reason(error)}") from None
    found = {str(name).rpartition(":")[2]: _causes(parts) for name, parts in status.items()}
    return {name: causes for name, causes in (found | _frozen(folder)).items() if causes}


def _frozen(folder: Path) -> dict[str, list[str]]:
    """The frozen stages that DVC would run otherwise, whose inputs it does not look at."""
    stages = pipeline.load(folder) if (folder / pipeline.FILE).is_file() else {}
    found: dict[str, list[str]] = {}
    if any(stage.frozen for stage in stages.values()):
        for stale in audit.compare(folder):
            if stale.stage in stages and stages[stale.stage].frozen:
                found.setdefault(stale.stage, [FROZEN]).append(stale.why)
    return found


def _causes(parts: list[Any]) -> list[str]:
    """What changed, out of DVC's status of one stage."""
    causes = []
    for part in parts:
        if part == "changed command":
            causes.append("the command")
        for changed in part.values() if isinstance(part, dict) else ():
            for path, how in changed.items():
                if isinstance(how, dict):  # parameters of a file
                    prefix = "" if path == "params.yaml" else f"{path}: "
                    causes += [f"{prefix}{key}" for key in how]
                elif how not in _ABSENT:
                    causes.append(path)
    return causes


def fetch(path: str, revision: str | None, folder: Path) -> Path:
    """An output of a revision, out of DVC's cache or remote, as a file below ``folder``.

    Args:
        path: Relative to the top folder of the project.
        revision: A commit, or None for the work tree.
        folder: Where a file goes that is not in the work tree.

    Raises:
        UserError: DVC does not have it.
    """
    from dvc.api import DVCFileSystem  # type: ignore[import-untyped]

    # Of a commit it begins at Git's top folder, which may be above the project's
    prefix = git("rev-parse", "--show-prefix").stdout.decode().strip() if revision else ""
    try:
        how = {"rev": revision, "config": _storage(), "subrepos": bool(prefix)}
        # closed, for it holds databases open, which Python 3.13 reports once they are collected
        with contextlib.closing(DVCFileSystem(".", **how)) as outputs:
            content = outputs.read_bytes(f"{prefix}{path}")
    except Exception as error:  # whatever DVC or the remote's library says
        raise UserError(f"{path}: {reason(error)}") from None
    files.write_bytes(folder / path, content)
    return folder / path


def cached(cache: Path, digest: str) -> Path:
    """Where DVC's cache has, or would have, what an MD5 is of."""
    return cache / "files" / "md5" / digest[:2] / digest[2:]


def cache_folder() -> Path:
    """Where the work tree's DVC keeps outputs and the records of its runs.

    Raises:
        UserError: DVC cannot say.
    """
    from dvc.repo import Repo

    try:
        with Repo(".") as repo:
            return Path(repo.cache.legacy.path)
    except Exception as error:  # whatever DVC says
        raise UserError(f"DVC's cache: {reason(error)}") from None


def _storage() -> dict[str, Any]:
    """Where the work tree's DVC keeps outputs.

    The settings of a revision may be older, and those of .dvc/config.local are in no revision.
    """
    from dvc.repo import Repo

    with Repo(".") as repo:
        remote = repo.config["core"].get("remote")
        return {
            "core": {"remote": remote} if remote else {},
            "remote": dict(repo.config["remote"]),
            "cache": dict(repo.config["cache"]),
        }


def reason(error: Exception) -> str:
    """One line about an exception of DVC's."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if text == "No storage files available":
        return "neither in DVC's cache nor in a remote"
    if text == "No such file or directory":
        return "not an output of the pipeline there"
    return (text.strip() or type(error).__name__).splitlines()[0].rstrip(".")
