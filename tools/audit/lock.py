"""What is stale: dvc.lock against the code, the parameters and the results that are in Git.

It needs no data: what a stage makes is compared by the hashes that dvc.lock holds of it. A dep
that is one file of a folder that another stage makes as a whole has no such hash and stays unseen.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.lib.core import config, pipeline, recorded
from stages.lib.core.pipeline import LOCK, Entry, Stage
from tools.audit import configuration, history
from tools.audit.finding import Finding

STEP = f"run `dvc repro` and commit {LOCK}"
UNFREEZE = f"take out its `frozen`, then {STEP}"


@dataclass(frozen=True)
class Stale:
    """One reason for which a stage would run.

    Attributes:
        stage: Its name.
        why: What differs.
        source: The source file, when it is one that differs from dvc.lock.
        digest: The MD5 that dvc.lock has of it.
        step: What to do.
    """

    stage: str
    why: str
    source: str = ""
    digest: str = ""
    step: str = STEP


def check(root: Path) -> tuple[list[Finding], list[str]]:
    """The stages that are stale, and advice on those that need no run.

    Args:
        root: The top folder of the repository.

    Raises:
        UserError: A file is missing or not as DVC writes it.
    """
    found = compare(root)
    frozen = {name for name, stage in pipeline.load(root).items() if stage.frozen}
    findings = [
        Finding(stale.stage, stale.why, UNFREEZE if stale.stage in frozen else stale.step)
        for stale in found
    ]
    return findings, advice(root, found)


def advice(root: Path, found: Iterable[Stale]) -> list[str]:
    """One line for every stage whose code differs in what has no effect, and in nothing else."""
    reasons: dict[str, list[Stale]] = {}
    for stale in found:
        reasons.setdefault(stale.stage, []).append(stale)
    return [
        f"{stage}: {', '.join(stale.source for stale in stales)} changed in comments, docstrings "
        "or layout only, without effect: accept it without running by "
        f"`dvc checkout {stage} && dvc commit -f {stage}`"
        for stage, stales in reasons.items()
        if all(
            stale.source and history.same_code(root, stale.source, stale.digest) for stale in stales
        )
    ]


def compare(root: Path) -> list[Stale]:
    """All differences between dvc.lock and what is there."""
    stages, entries = pipeline.load(root), pipeline.load_lock(root)
    params = configuration.load(root, config.PARAMS)
    outs = {path: digest for entry in entries.values() for path, digest in entry.outs.items()}
    found = [
        Stale(name, f"is in {LOCK} and not in {pipeline.FILE}")
        for name in entries
        if name.partition("@")[0] not in stages
    ]
    for name, stage in stages.items():
        if stage.strange:
            what = f"`{stage.strange}` is not understood by the audit"
            found.append(Stale(name, what, step="run `dvc status`, which says whether it is stale"))
        elif name in entries:
            for rule in RULES:
                found += rule(root, stage, entries[name], params)
            found += _inputs(root, stage, entries[name], params, outs)
        else:
            found.append(Stale(name, f"is not in {LOCK}"))
    return found


# Each rule: the folder, the stage as declared, what dvc.lock has of it, and params.yaml


def _command(_: Path, stage: Stage, entry: Entry, params: Mapping[str, Any]) -> Iterator[Stale]:
    lines = stage.command if isinstance(stage.command, list) else [stage.command]
    named = [key for line in lines for key in pipeline.references(line)]
    if any(isinstance(pipeline.lookup(params, key), dict | list) for key in named):
        return  # DVC makes several words of it
    now = [pipeline.resolve(line, params) for line in lines]
    if now != (entry.command if isinstance(entry.command, list) else [entry.command]):
        yield Stale(stage.name, f"its cmd is {'; '.join(now)}, in {LOCK} it is {entry.command}")


def _params(root: Path, stage: Stage, entry: Entry, params: Mapping[str, Any]) -> Iterator[Stale]:
    for file, template in stage.params:
        content = configuration.load(root, file)
        key = pipeline.resolve(template, params)
        before = [name for other, name in entry.params if other == file]
        # Without a key it is all of the file, and what was in it
        for name in [key] if key else dict.fromkeys([*content, *before]):
            label = f"parameter {file}: {name}"
            if (file, name) not in entry.params:
                yield Stale(stage.name, f"{label} is not in {LOCK}")
            elif not configuration.has(content, name):
                yield Stale(stage.name, f"{label} is gone")
            else:
                now, was = pipeline.lookup(content, name), entry.params[file, name]
                for inner, one, other in _changed(name, now, was):
                    yield Stale(
                        stage.name, f"parameter {file}: {inner} is {one}, it ran with {other}"
                    )


def _changed(key: str, now: object, was: object) -> Iterator[tuple[str, str, str]]:
    """The keys at and below ``key`` whose values differ, and both values."""
    if isinstance(now, dict) and isinstance(was, dict):
        for name in now | was:
            yield from _changed(f"{key}.{name}", now.get(name, "gone"), was.get(name, "none"))
    elif now != was:
        yield key, _short(now), _short(was)


def _results(root: Path, stage: Stage, entry: Entry, params: Mapping[str, Any]) -> Iterator[Stale]:
    for out in stage.outs:
        path = pipeline.resolve(out.path, params)
        if path not in entry.outs:
            yield Stale(stage.name, f"out {path} is not in {LOCK}")
        elif not out.cached:
            found = digest(root, path)
            if not found:
                yield Stale(stage.name, f"{path}, which belongs in Git, is missing")
            elif found != entry.outs[path]:
                yield Stale(stage.name, f"{path} is not the one that it wrote")


RULES = (_command, _params, _results)


def _inputs(
    root: Path, stage: Stage, entry: Entry, params: Mapping[str, Any], outs: Mapping[str, str]
) -> Iterator[Stale]:
    """Deps against what their stage made of them, or against the file in Git."""
    for template in stage.deps:
        path = pipeline.resolve(template, params)
        was = entry.deps.get(path)
        if was is None:
            yield Stale(stage.name, f"dep {path} is not in {LOCK}")
        elif path in outs:
            if outs[path] != was:
                yield Stale(stage.name, f"{path} was made anew since it ran")
        elif not any(_overlap(path, out) for out in outs):
            found = digest(root, path)
            if not found:
                folders = [folder.as_posix() for folder in Path(path).parents]
                kept = any((root / f"{folder}.dvc").is_file() for folder in folders)
                step = "run `dvc checkout`, or `dvc pull`" if kept else STEP
                yield Stale(stage.name, f"{path} is missing", step=step)
            elif found != was:
                source = path if path.endswith(".py") else ""
                yield Stale(stage.name, f"{path} changed since it ran", source, was)


def digest(root: Path, path: str) -> str:
    """The MD5 of a file or folder as DVC computes it; empty when it is not there."""
    full = root / path
    if not full.exists() and (kept := full.with_name(f"{full.name}.dvc")).is_file():
        outs = configuration.load(root, kept.relative_to(root).as_posix()).get("outs")
        return str(outs[0].get("md5", "")) if isinstance(outs, list) and outs else ""
    if full.is_file():
        return recorded.md5(full)
    if not full.is_dir():
        return ""
    ignored = pipeline.ignored(root)
    files = (file for file in full.rglob("*") if file.is_file())
    names = {file.relative_to(full).as_posix() for file in files}
    hashed = {name for name in names if not ignored(f"{path}/{name}")}
    return recorded.tree({name: recorded.md5(full / name) for name in hashed})


def _overlap(path: str, out: str) -> bool:
    return path.startswith(f"{out}/") or out.startswith(f"{path}/")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
