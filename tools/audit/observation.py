"""What a stage touches when it runs, against what dvc.yaml declares for it."""

import difflib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.lib.core import config
from stages.lib.core.errors import UserError
from tools.audit import configuration, libraries, pipeline
from tools.audit.finding import Finding
from tools.audit.pipeline import Stage

RECORDER = Path(__file__).with_name("recorder.py")


@dataclass(frozen=True)
class Record:
    """What a run touched in the repository.

    Attributes:
        read: Files that were opened and folders that were listed.
        written: Files that were opened to write, and what was moved into place.
        params: Parameters by file and key.
        modules: Source files that were imported.
        libraries: Packages that they imported.
    """

    read: set[str]
    written: set[str]
    params: set[tuple[str, str]]
    modules: set[str]
    libraries: set[str]


def check(root: Path, name: str) -> list[Finding]:
    """Runs a stage, as DVC would, and compares.

    Args:
        root: The top folder of the repository.
        name: The stage.

    Raises:
        UserError: There is no such stage, or it failed.
    """
    stages = pipeline.load(root)
    if name not in stages or not stages[name].module:
        names = [stage.name for stage in stages.values() if stage.module]
        near = difflib.get_close_matches(name, names, n=1)
        raise UserError(
            f"--run: expected one of {', '.join(names)}; found '{name}'.\n"
            f"{f'Did you mean {near[0]}?' if near else 'Use one of those and run again.'}"
        )
    stage = resolved(stages[name], configuration.load(root, config.PARAMS))
    return compare(stage, watch(root, stage))


def watch(root: Path, stage: Stage) -> Record:
    """The record of one run of a stage.

    Raises:
        UserError: The run failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "record.json"
        module = stage.module.replace("/", ".")
        command = [sys.executable, str(RECORDER), str(record), module]
        status = subprocess.run(command, cwd=root, check=False).returncode  # noqa: S603 a stage of dvc.yaml
        if status or not record.is_file():
            raise UserError(
                f"{stage.name}: ended with status {status}, so there is nothing to compare.\n"
                "Mend that and run again."
            )
        found = json.loads(record.read_text(encoding="utf-8"))
    names = {name for name in found["libraries"] if name not in sys.stdlib_module_names}
    ours = {path.split("/")[0].removesuffix(".py") for path in found["modules"]}
    return Record(
        read=set(found["read"]),
        written=set(found["written"]),
        params={(file, key) for file, key in found["params"]},
        modules=set(found["modules"]),
        libraries={
            libraries.distribution(name) for name in names - ours - libraries.WITHOUT_INFLUENCE
        },
    )


def resolved(stage: Stage, params: Mapping[str, Any]) -> Stage:
    """The stage with the values of params.yaml in place."""
    return Stage(
        name=stage.name,
        command=stage.command,
        module=stage.module,
        deps=tuple(pipeline.resolve(dep, params) for dep in stage.deps),
        params=tuple((file, pipeline.resolve(key, params)) for file, key in stage.params),
        outs=tuple(
            pipeline.Out(pipeline.resolve(out.path, params), out.cached) for out in stage.outs
        ),
        strange=stage.strange,
    )


def compare(stage: Stage, record: Record) -> list[Finding]:
    """The differences, each as a line: undeclared, and declared but untouched."""
    return [
        Finding(stage.name, what, f"{step} in {pipeline.FILE}")
        for rule in RULES
        for what, step in rule(stage, record)
    ]


# Each rule: what is wrong, and what to do


def _modules(stage: Stage, record: Record) -> Iterator[tuple[str, str]]:
    declared = {dep for dep in stage.deps if dep.endswith(".py")}
    for path in sorted(record.modules - declared):
        yield f"imported {path}, undeclared", f"add `- {path}` to its deps"
    for path in sorted(declared - record.modules):
        yield f"declares {path} and did not import it", f"remove `- {path}` from its deps"


def _params(stage: Stage, record: Record) -> Iterator[tuple[str, str]]:
    declared = set(stage.params)
    touched = {pair for pair in record.params if not _covered(pair, record.params - {pair})}
    for file, key in sorted(touched - declared):
        yield f"read {key} of {file}, undeclared", f"add `- {key}` to its params, under {file}"
    for file, key in sorted(declared - touched):
        what = f"declares {key or 'all'} of {file} and did not read just that"
        yield what, f"remove `- {key}` from its params"


def _libraries(stage: Stage, record: Record) -> Iterator[tuple[str, str]]:
    declared = {key for file, key in stage.params if file == libraries.ENVIRONMENT}
    for name in sorted(record.libraries - declared):
        yield (
            f"imported {name}, undeclared",
            f"add `- {name}` to its params, under environment.yaml",
        )
    for name in sorted(declared - record.libraries):
        yield f"declares {name} and did not import it", f"remove `- {name}` from its params"


def _files(stage: Stage, record: Record) -> Iterator[tuple[str, str]]:
    outs = [out.path for out in stage.outs]
    for path in sorted(record.read - record.written):
        if not _within(path, [*stage.deps, *outs]):
            yield f"opened {path}, undeclared", f"add `- {path}` to its deps"
    for path in sorted(record.written):
        folder = any(other.startswith(f"{path}/") for other in record.written)
        if not folder and not _within(path, outs):
            yield f"wrote {path}, undeclared", f"add `- {path}` to its outs"
    for path in stage.deps:
        if not path.endswith(".py") and not _holds(path, record.read):
            yield f"declares {path} and did not open it", f"remove `- {path}` from its deps"
    for path in outs:
        if not _holds(path, record.written):
            yield f"declares {path} and did not write it", f"remove `- {path}` from its outs"


Rule = Callable[[Stage, Record], Iterable[tuple[str, str]]]
RULES: tuple[Rule, ...] = (_modules, _params, _libraries, _files)


def _covered(pair: tuple[str, str], others: Iterable[tuple[str, str]]) -> bool:
    return any(file == pair[0] and pair[1].startswith(f"{key}.") for file, key in others)


def _within(path: str, declared: Iterable[str]) -> bool:
    return any(path == other or path.startswith(f"{other}/") for other in declared)


def _holds(path: str, touched: Iterable[str]) -> bool:
    """Whether a path, or something in it, is among those that were touched."""
    return any(other == path or other.startswith(f"{path}/") for other in touched)
