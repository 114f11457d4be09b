"""The rules that dvc.yaml is held to, one function a rule and one row a rule in the table."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from stages.lib.core import config
from tools.audit import configuration, libraries, needs, pipeline, sources
from tools.audit.finding import Change, Finding
from tools.audit.needs import Needs
from tools.audit.pipeline import Stage
from tools.audit.values import Read, Use

OWN = ".checkpoints"  # what a stage keeps for itself; neither a dep nor an out


def check(root: Path) -> tuple[list[Finding], dict[str, Stage], dict[str, Needs]]:
    """All findings, and the stages and their needs, for whom wants to look at them."""
    stages = pipeline.load(root)
    code = sources.Sources(root)
    found = inspect(code, stages)
    return compare(code, stages, found), stages, found


def inspect(code: sources.Sources, stages: Mapping[str, Stage]) -> dict[str, Needs]:
    """What every stage depends on whose module is there."""
    return {
        name: needs.find(code, stage.module)
        for name, stage in stages.items()
        if stage.module and code.file(stage.module) and not stage.strange
    }


def compare(
    code: sources.Sources, stages: Mapping[str, Stage], found: Mapping[str, Needs]
) -> list[Finding]:
    """What is wrong with the stages, and with the files that they share."""
    findings = [*_not_understood(code, stages), *declarations(stages, found)]
    unseen = [stage for name, stage in stages.items() if name not in found]
    reads = [read for need in found.values() for read in need.reads]
    reads += [Read(*param, pipeline.FILE) for stage in unseen for param in stage.params]
    findings += configuration.check(code, reads)
    versions = configuration.load(code.root, libraries.ENVIRONMENT)
    findings += libraries.drift(
        code.root, {str(key): str(value) for key, value in versions.items()}
    )
    return list(dict.fromkeys(findings))


def declarations(stages: Mapping[str, Stage], found: Mapping[str, Needs]) -> Iterator[Finding]:
    """Every rule of the table applied to every stage."""
    for name, need in found.items():
        stage = stages[name]
        others = [other for other in stages.values() if other is not stage]
        made = {out.path for other in others for out in other.outs}
        for rule in RULES:
            yield from rule(stage, need, made)


def _not_understood(code: sources.Sources, stages: Mapping[str, Stage]) -> Iterator[Finding]:
    for name, stage in stages.items():
        if stage.strange:
            step = "write the stages out one by one, run from the top folder"
            yield Finding(name, f"`{stage.strange}` is not understood by the audit", step)
        elif not code.file(stage.module) and code.ours(stage.module.partition("/")[0]):
            folder = (code.root / stage.module).parent
            names = [path.stem for path in folder.glob("*.py")]
            near = difflib.get_close_matches(stage.module.rpartition("/")[2], names, n=1)
            step = (
                f"did you mean {near[0]}?" if near else f"write {stage.module}.py, or correct cmd"
            )
            yield Finding(name, f"its cmd runs {stage.module}.py, which is not there", step)


# Each rule: the stage as declared, its needs, and what other stages make


def undeclared_sources(stage: Stage, need: Needs, _: set[str]) -> Iterator[Finding]:
    """Every imported file is a dep."""
    for file, where in sorted(need.files.items()):
        if not any(_in(file, dep) for dep in stage.deps):
            yield _missing(stage, "deps", "", file, f"imports {file} at {where}")


def undeclared_params(stage: Stage, need: Needs, _: set[str]) -> Iterator[Finding]:
    """Every parameter that is read is declared, by that very key."""
    for (file, key), where in sorted(need.params.items()):
        covered = any(
            _within(key, other)
            for name, other in need.params
            if (name, other) != (file, key) and name == file
        )
        if (file, key) not in stage.params and not covered:
            reads = "imports" if file == libraries.ENVIRONMENT else "reads"
            yield _missing(
                stage, "params", file, key, f"{reads} {key or 'all'} of {file} at {where}"
            )


def undeclared_paths(stage: Stage, need: Needs, made: set[str]) -> Iterator[Finding]:
    """Every path that is used is in a dep or an out, and every one that is written in an out."""
    outs = [out.path for out in stage.outs]
    for use, where in sorted(need.uses.items(), key=lambda item: str(item)):
        declared = outs if use.written else [*outs, *stage.deps]
        if _outside(use.path) or any(_meets(use, path) for path in declared):
            continue
        if use.written:
            step = f"add `- {use.path}` to its outs, metrics or plots in {pipeline.FILE}"
            yield Finding(stage.name, f"writes {use.path} at {where}, undeclared", step)
        else:
            yield from _undeclared_path(stage, need, use, made)


def unread_deps(stage: Stage, need: Needs, _: set[str]) -> Iterator[Finding]:
    """Every dep is a file that is imported or a path that is used, and not the stage's own out."""
    outs = [out.path for out in stage.outs]
    for path in stage.deps:
        used = any(_meets(use, path) for use in need.uses if not use.written)
        data = used and not path.endswith(".py") and not any(_in(path, out) for out in outs)
        if path not in need.files and not _all_imported(path, need) and not data:
            yield _needless(stage, "deps", "", path)


def unread_params(stage: Stage, need: Needs, _: set[str]) -> Iterator[Finding]:
    """Every declared parameter is read, neither more nor less than it."""
    for file, key in stage.params:
        around = any(
            _within(key, other) for name, other in need.params if name == file and other != key
        )
        if (file, key) not in need.params or around:
            yield _needless(stage, "params", file, key)


def repeated(stage: Stage, _: Needs, __: set[str]) -> Iterator[Finding]:
    """Nothing is declared twice."""
    for path in stage.deps:
        for folder in stage.deps:
            if path != folder and _in(path, folder):
                yield _needless(stage, "deps", "", path, f"declares {path}, which is in {folder}")
    entries = [*stage.deps, *(f"{file}: {key}" for file, key in stage.params)]
    for entry in dict.fromkeys(entries):
        if entries.count(entry) > 1:
            yield Finding(
                stage.name, f"{entry} is declared twice", f"remove one of them from {pipeline.FILE}"
            )


def unmade_outs(stage: Stage, need: Needs, _: set[str]) -> Iterator[Finding]:
    """Every out is a path that is used."""
    for out in stage.outs:
        if not any(_meets(use, out.path) for use in need.uses):
            step = f"remove it from {pipeline.FILE}"
            yield Finding(stage.name, f"declares the out {out.path} and does not write it", step)


def unchecked_libraries(stage: Stage, need: Needs, _: set[str]) -> Iterator[Finding]:
    """Every imported library is checked against environment.yaml when the stage starts."""
    for name, where in sorted(need.imported.items()):
        if name not in need.required:
            step = f'add "{name}" to versions.require in {stage.module}.py'
            yield Finding(stage.name, f"imports {name} at {where}, unchecked", step)
    for name, where in sorted(need.required.items()):
        if name not in need.imported:
            step = f'remove "{name}" there'
            yield Finding(stage.name, f"checks {name} at {where} and does not import it", step)


def unused_fields(stage: Stage, need: Needs, _: set[str]) -> Iterator[Finding]:
    """Every value that is read is used."""
    for field, key in sorted(need.unused.items(), key=lambda item: item[0].where):
        what = (
            f"reads {key} into {field.owner.name}.{field.name} at {field.where} and does not use it"
        )
        yield Finding(stage.name, what, "remove it there, or use it")


def unfollowed(stage: Stage, need: Needs, _: set[str]) -> Iterator[Finding]:
    """Nothing is read in a way that the audit cannot follow."""
    for where, what in sorted(need.obscure.items()):
        step = "write the name as a text, or as a value of config.value"
        yield Finding(stage.name, f"{what} that the audit cannot follow at {where}", step)
    for module, where in sorted(need.missing.items()):
        yield Finding(
            stage.name,
            f"imports {module} at {where}, which is not there",
            "write it, or correct the import",
        )


Rule = Callable[[Stage, Needs, set[str]], Iterable[Finding]]
RULES: tuple[Rule, ...] = (
    undeclared_sources,
    undeclared_params,
    undeclared_paths,
    unread_deps,
    unread_params,
    repeated,
    unmade_outs,
    unchecked_libraries,
    unused_fields,
    unfollowed,
)


def _missing(stage: Stage, section: str, file: str, entry: str, why: str) -> Finding:
    place = section if file in ("", config.PARAMS) else f"{section}, under {file}"
    return Finding(
        stage.name,
        f"{why}, undeclared",
        f"add `- {entry}` to its {place} in {pipeline.FILE}",
        Change(stage.name, True, section, file, entry),
    )


def _needless(stage: Stage, section: str, file: str, entry: str, what: str = "") -> Finding:
    name = f"{entry or 'all'} of {file}" if file else entry
    just = "just that" if section == "params" else "it"
    return Finding(
        stage.name,
        what or f"declares {name} and does not read {just}",
        f"remove `- {entry}` from its {section} in {pipeline.FILE}",
        Change(stage.name, False, section, file, entry),
    )


def _undeclared_path(stage: Stage, need: Needs, use: Use, made: set[str]) -> Iterator[Finding]:
    """A path that is read and not known to be written becomes a dep."""
    where = need.uses[use]
    if use.path in {file for file, _ in need.params}:
        step = "read single keys of it by stages.lib.core.config"
        yield Finding(stage.name, f"opens {use.path} at {where}", step)
        return
    inside = sorted(path for path in made if _meets(use, path)) if use.partial else []
    for path in inside or [use.path]:
        yield _missing(stage, "deps", "", path, f"uses {path} at {where}")


def _all_imported(folder: str, need: Needs) -> bool:
    """Whether a folder holds source files, and the stage imports every one of them."""
    sources = [path.as_posix() for path in Path(folder).rglob("*.py")]
    return bool(sources) and need.files.keys() >= set(sources)


def _outside(path: str) -> bool:
    return path in ("", ".") or path.startswith("../") or _in(path, OWN)


def _meets(use: Use, path: str) -> bool:
    """Whether a declared path holds what is used, or lies in a folder of which all is used."""
    return _in(use.path, path) or (use.partial and _in(path, use.path))


def _in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _within(key: str, section: str) -> bool:
    """Whether a key lies in a section; in the whole file, which has no key, lie all."""
    return key != section and (not section or key.startswith(f"{section}."))
