"""The rules that dvc.yaml is held to, one function a rule and one row a rule in the table."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.lib.core import config, pipeline
from stages.lib.core.errors import UserError
from stages.lib.core.pipeline import Stage, within
from tools.audit import configuration, libraries, needs, observed, sources
from tools.audit.finding import Change, Finding
from tools.audit.libraries import ENVIRONMENT
from tools.audit.needs import Needs

TEMPLATES = (
    "dataset",
    "model.architecture",
    "model.weights",
)  # parameters that choose other keys and files


def check(root: Path) -> tuple[list[Finding], dict[str, Stage], dict[str, Needs]]:
    """All findings, and the stages and their needs, for whom wants to look at them."""
    stages = pipeline.load(root)
    code = sources.Sources(root)
    variants = configuration.params_files(root)
    for name, content in variants.items():
        for stage in stages.values():
            if stage.strange:
                continue  # its ${...} may name what is no parameter
            try:
                stage.resolved(content)
            except UserError as error:
                raise UserError(str(error).replace(config.PARAMS, name)) from None
    found = inspect(code, stages, variants)
    findings = [*_not_followed(code, stages), *declarations(stages, found, variants)]
    findings += [*_line_ends(root, stages, found), *_unread(root, stages, found, variants)]
    installed = configuration.load(root, ENVIRONMENT)
    findings += libraries.drift(root, {str(key): str(value) for key, value in installed.items()})
    return list(dict.fromkeys(findings)), stages, found


def inspect(
    code: sources.Sources, stages: Mapping[str, Stage], variants: Mapping[str, dict[str, Any]]
) -> dict[str, Needs]:
    """What every stage depends on whose module is there."""
    commands = {
        name: [stage.module, *pipeline.arguments(stage.resolved(variants[config.PARAMS]).command)]
        for name, stage in stages.items()
        if stage.module and code.file(stage.module) and not stage.strange
    }
    for module, *_ in commands.values():
        code.closure([str(code.file(module))])  # an error of syntax is told before any is run
    texts = {name: configuration.text(content) for name, content in variants.items()}
    seen = observed.observe(code.root, commands, texts, _beside(stages, variants[config.PARAMS]))
    return {
        name: needs.find(
            code,
            module,
            {file: seen[file][name] for file in seen},
            [*words, *_values(stages[name], variants)],
        )
        for name, (module, *words) in commands.items()
    }


def _line_ends(
    root: Path, stages: Mapping[str, Stage], found: Mapping[str, Needs]
) -> Iterator[Finding]:
    """Code ends its lines as Git stores them, or no other clone has the hashes of dvc.lock."""
    paths = {root / file for need in found.values() for file in need.imports.files}
    for dep in {dep for stage in stages.values() for dep in stage.deps if within(dep, "stages")}:
        paths.update(path for path in (root / dep).rglob("*") if path.suffix != ".pyc")
    for path in sorted(path for path in paths if path.is_file()):
        content = path.read_bytes()
        if b"\r\n" in content and b"\0" not in content:
            file = path.relative_to(root).as_posix()
            step = f"`git add {file} && rm {file} && git checkout {file}`, then `dvc repro`"
            yield Finding(file, "its lines end in CRLF, and in every other clone in LF", step)


def _beside(stages: Mapping[str, Stage], params: Mapping[str, Any]) -> set[str]:
    """Files of parameters, and deps that are neither made nor code: settings may read them."""
    made = {out.path for stage in stages.values() for out in stage.outs}
    each = [stage.resolved(params) for stage in stages.values() if not stage.strange]
    deps = {dep for stage in each for dep in stage.deps if not Path(dep).is_absolute()}
    files = {file for stage in each for file, _ in stage.params}
    data = {dep for dep in deps - made if not dep.endswith(".py") and not dep.startswith("../")}
    return files | {dep for dep in data if Path(dep).suffix or not within(dep, "stages")}


def _values(stage: Stage, variants: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """The texts among the parameters that a stage declares."""
    for content in variants.values():
        for file, key in stage.resolved(content).params:
            if file == config.PARAMS and key and configuration.has(content, key):
                waiting = [pipeline.lookup(content, key)]
                while waiting:
                    value = waiting.pop()
                    if isinstance(value, str):
                        yield value
                    elif isinstance(value, dict | list):
                        waiting += value.values() if isinstance(value, dict) else value


def declarations(
    stages: Mapping[str, Stage],
    found: Mapping[str, Needs],
    variants: Mapping[str, dict[str, Any]],
) -> Iterator[Finding]:
    """Every rule of the table applied to every stage."""
    for name, need in found.items():
        made = {out.path for other in stages.values() if other.name != name for out in other.outs}
        for rule in RULES:
            yield from rule(stages[name], need, variants, made)


def _not_followed(code: sources.Sources, stages: Mapping[str, Stage]) -> Iterator[Finding]:
    for name, stage in stages.items():
        if stage.strange:
            step = "write the stages out one by one, run from the top folder"
            yield Finding(name, f"`{stage.strange}` is not understood by the audit", step)
        elif not stage.module:
            what = f"its cmd `{' '.join(str(stage.command).split())}` cannot be followed"
            yield Finding(name, what, "write `python -m stages.NAME`, one line")
        elif not code.file(stage.module):
            folder = (code.root / stage.module).parent
            names = [path.stem for path in folder.glob("*.py")]
            near = difflib.get_close_matches(stage.module.rpartition("/")[2], names, n=1)
            step = f"did you mean {near[0]}?" if near else "write it, or correct cmd"
            yield Finding(name, f"its cmd runs {stage.module}.py, which is not there", step)


def _unread(
    root: Path,
    stages: Mapping[str, Stage],
    found: Mapping[str, Needs],
    variants: Mapping[str, dict[str, Any]],
) -> Iterator[Finding]:
    """Keys that are defined and that no stage reads, in params.yaml, the recipes, the catalogue."""
    if len(found) < len(stages) or any(need.failed for need in found.values()):
        return  # what is read is not known then
    for name, content in variants.items():
        if " with " in name:
            continue
        same = [file for file in variants if file.partition(" with ")[0] == name]
        known = {
            key
            for need in found.values()
            for file in same
            for other, key in need.observed[file].params
            if other == config.PARAMS
        }
        yield from configuration.unread(name, content, known | pipeline.templates(root))
    for file in (config.DATASETS, config.WEIGHTS, ENVIRONMENT):
        entries = configuration.load(root, file)
        known = {key for need in found.values() for other, key in need.params if other == file}
        if file != ENVIRONMENT:
            known = {f"{name}.{key.partition('.')[2]}" for key in known for name in entries}
        yield from configuration.unread(file, entries, known)


# Each rule: the stage as declared, its needs, the params files, and what other stages make


def unreadable(stage: Stage, need: Needs, _: Any, __: set[str]) -> Iterator[Finding]:
    """The settings can be read with every params file."""
    for message in sorted({seen.error for seen in need.observed.values() if seen.error}):
        files = [file for file, seen in need.observed.items() if seen.error == message]
        yield Finding(stage.name, f"its settings cannot be read with {files[0]}", message)


def undeclared_sources(stage: Stage, need: Needs, variants: Any, __: set[str]) -> Iterator[Finding]:
    """Every imported file is a dep."""
    for file, where in sorted(need.imports.files.items()):
        if file not in need.by_name and not any(within(file, dep) for dep in stage.deps):
            yield _missing(stage, "deps", "", file, f"imports {file} at {where}")
    for name, seen in need.observed.items():
        deps = stage.resolved(variants[name]).deps
        for file in sorted(seen.modules & need.by_name):
            if not any(within(file, dep) for dep in deps):
                path = _template(file, "/", variants[name])
                yield _missing(
                    stage, "deps", "", path, f"imports {file} at {need.imports.files[file]}"
                )


def undeclared_params(stage: Stage, need: Needs, variants: Any, __: set[str]) -> Iterator[Finding]:
    """Every parameter that is read is declared, by that very key."""
    for name, seen in need.observed.items():
        declared = set(stage.resolved(variants[name]).params)
        for file, key in sorted((seen.params & need.params) - declared):
            if file == ENVIRONMENT or file not in stage.deps:
                entry = _template(key, ".", variants[name])
                what = f"reads {key or 'all'} of {file}"
                yield _missing(stage, "params", file, entry, what)


def unread_params(stage: Stage, need: Needs, variants: Any, __: set[str]) -> Iterator[Finding]:
    """Every declared parameter is read with some params file, neither more nor less than it."""
    if need.failed:
        return
    for file, key in stage.params:
        if file == ENVIRONMENT and libraries.normal(key) in need.libraries:
            continue  # the other rule asks for it
        read = any(
            (file, pipeline.resolve(key, variants[name])) in seen.params & need.params
            for name, seen in need.observed.items()
        )
        if read or (not key and need.names(file)):  # a whole file may be opened by hand
            continue
        if key in need.keys:
            what = f"declares {key} of {file} and does not read just that in its settings"
            step = f"read it there and not in main, or remove `- {key}` from its params"
            yield Finding(stage.name, what, f"{step} in {pipeline.FILE}")
        else:
            yield _needless(stage, "params", file, key)


def unread_deps(stage: Stage, need: Needs, variants: Any, _: set[str]) -> Iterator[Finding]:
    """Every dep is imported, or named in the code; of a folder of code every module is imported.

    Paths may be made at run time, so that ``--fix`` leaves a dep that is no module alone.
    """
    if need.failed:
        return
    files = set(need.imports.files)
    for dep in stage.deps:
        if any(within(dep, out.path) for out in stage.outs):
            yield _needless(stage, "deps", "", dep, f"declares its own out {dep} as a dep")
            continue
        for path in sorted({pipeline.resolve(dep, content) for content in variants.values()}):
            modules = [file for file in need.present if within(file, path)]
            idle = [file for file in modules if file not in files or need.now_and_then(dep, file)]
            if idle and not all(map(need.loads, idle)):
                what = f"declares {dep} and does not import {idle[0]}"
                yield _needless(stage, "deps", "", dep, what)
            elif path.endswith(".py"):
                if not modules and path not in files and not need.loads(path):
                    yield _needless(stage, "deps", "", dep)
            elif not modules and not need.names(path) and not any(within(f, path) for f in files):
                what = f"declares {dep}, which no text of its code names"
                step = f"name it there, or remove `- {dep}` from its deps in {pipeline.FILE}"
                yield Finding(stage.name, what, step)


def repeated(stage: Stage, need: Needs, _: Any, __: set[str]) -> Iterator[Finding]:
    """Nothing is declared twice."""
    for path in stage.deps:
        for folder in stage.deps:
            if path != folder and within(path, folder) and not need.apart(path, folder):
                yield _needless(stage, "deps", "", path, f"declares {path}, which is in {folder}")
    entries = [*stage.deps, *(f"{file}: {key}" for file, key in stage.params)]
    for entry in dict.fromkeys(entries):
        if entries.count(entry) > 1:
            step = f"remove one of them from {pipeline.FILE}"
            yield Finding(stage.name, f"{entry} is declared twice", step)


def unmade_outs(stage: Stage, need: Needs, _: Any, __: set[str]) -> Iterator[Finding]:
    """Every out is named in the code."""
    for out in stage.outs:
        if "$" not in out.path and not need.names(out.path):
            step = f"remove it from {pipeline.FILE}"
            yield Finding(stage.name, f"declares the out {out.path} and does not name it", step)


def unchecked_libraries(stage: Stage, need: Needs, _: Any, __: set[str]) -> Iterator[Finding]:
    """Every imported library is declared, and checked against environment.yaml at the start."""
    if need.failed:
        return
    required, declared = (
        {libraries.normal(key) for file, key in pairs if file == ENVIRONMENT}
        for pairs in (need.params, stage.params)
    )
    known = {libraries.normal(str(key)) for key in configuration.load(need.root, ENVIRONMENT)}
    for name, where in sorted(need.libraries.items()):
        if name not in required:
            step = f'add "{name}" to versions.require in {stage.module}.py'
            yield Finding(stage.name, f"imports {name} at {where}, unchecked", step)
            what = f"imports {name} at {where}"
            if name not in known:  # DVC would stop at a parameter that is not there
                step = f"add it with its version there, and to its params in {pipeline.FILE}"
                yield Finding(stage.name, f"{what}, which {ENVIRONMENT} does not have", step)
            elif name not in declared:
                yield _missing(stage, "params", ENVIRONMENT, name, what)
    for name in sorted(required - set(need.libraries) - libraries.behind(need.libraries)):
        step = "remove it from versions.require"
        yield Finding(stage.name, f"checks {name} and does not import it", step)


def unused_fields(stage: Stage, need: Needs, _: Any, __: set[str]) -> Iterator[Finding]:
    """Every value that is read is used."""
    for name, where in sorted(need.unused.items(), key=lambda item: item[1]):
        what = f"reads {name} at {where} and does not use it"
        yield Finding(stage.name, what, "remove it there, or use it")


def missing_modules(stage: Stage, need: Needs, _: Any, __: set[str]) -> Iterator[Finding]:
    """Every module that is imported is there."""
    for module, where in sorted(need.imports.missing.items()):
        what = f"imports {module} at {where}, which is not there"
        yield Finding(stage.name, what, "write it, or correct the import")


Rule = Callable[[Stage, Needs, Any, set[str]], Iterable[Finding]]
RULES: tuple[Rule, ...] = (
    unreadable,
    undeclared_sources,
    undeclared_params,
    unread_deps,
    unread_params,
    repeated,
    unmade_outs,
    unchecked_libraries,
    unused_fields,
    missing_modules,
)


def _template(name: str, separator: str, values: Mapping[str, Any]) -> str:
    """A path or key with ``${...}`` where a parameter chose a part of it."""
    for key in TEMPLATES:
        if configuration.has(values, key):
            chosen = str(pipeline.lookup(values, key))
            parts = name.split(separator)
            stem, dot, suffix = (
                parts[-1].partition(".") if separator == "/" else (parts[-1], "", "")
            )
            parts[-1] = (
                f"${{{key}}}{dot}{suffix}" if stem == chosen and len(parts) > 1 else parts[-1]
            )
            parts[:-1] = [f"${{{key}}}" if part == chosen else part for part in parts[:-1]]
            name = separator.join(parts)
    return name


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
