"""What dvc.yaml and dvc.lock say about the stage that is running."""

import hashlib
import json
import os
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.lib.core import config, enforcement, launch, pipeline, yaml_file
from stages.lib.core.enforcement import Declared
from stages.lib.core.errors import UserError

PARAMETERS = (".yaml", ".yml", ".json", ".toml")


def declared() -> Declared | None:
    """What dvc.yaml declares for the running stage; None for a program that is no stage of it.

    Raises:
        UserError: dvc.yaml cannot be read, or is in a form that hides what the stage declares; or
            it is one of a file elsewhere.
    """
    names = launch.modules()
    file, _, named = os.environ.get("DVC_STAGE", "").replace(os.sep, "/").rpartition(":")
    here = f"{Path.cwd().as_posix()}/{pipeline.FILE}"  # as DVC, called elsewhere, may name it too
    stage = None
    if (names or named) and here.endswith(f"/{file.replace('../', '') or pipeline.FILE}"):
        stages = pipeline.load(Path()) if Path(pipeline.FILE).is_file() else {}
        stage = _running(stages, names, named.partition("@")[0])
    if stage is None and named:
        raise UserError(
            f"{file or pipeline.FILE}: stages.{named}: expected in the {pipeline.FILE} of the "
            "folder that it runs in, as what it reads is checked against that.\n"
            "Move the stage there."
        )
    if stage is None:
        return None
    if stage.strange:
        raise UserError(
            f"{pipeline.FILE}: stages.{stage.name}.{stage.strange}: expected cmd, deps, params and "
            "outs only, as what it reads is checked against them.\nWrite the stages out one by one."
        )
    stage = stage.resolved(_params())
    _refuse_passed_over(stage)
    return Declared(
        stage=stage.name,
        deps=stage.deps,
        outs=tuple(out.path for out in stage.outs),
        params=stage.params,
        network=stage.network,
    )


def _refuse_passed_over(stage: pipeline.Stage) -> None:
    """Refuses whole files of parameters with keys that DVC's run cache passes over.

    Raises:
        UserError: There is one.
    """
    for file, key in stage.params:
        path = Path(file)
        if key or file in enforcement.CATALOGUES or not path.is_file():
            continue
        if path.suffix not in PARAMETERS:
            raise UserError(
                f"{file}: expected YAML, JSON or TOML as a whole file of parameters.\n"
                "Put it into the deps instead."
            )
        for name in config.passed_over("", parse(yaml_file.text_of(path, file), file)):
            raise UserError(
                f"{file}: {name}: expected another name, or {file} as a dep, as DVC's run cache "
                f"passes over keys called {name.rpartition('.')[2]} and would give a wrong result."
                f"\nPut `- {file}` into the deps of {stage.name} instead, or rename the key."
            )


def parse(text: str, file: str) -> Any:
    """What a file of parameters holds, by its name: JSON, TOML, or YAML.

    Raises:
        UserError: It does not.
    """
    try:
        if file.endswith(".json"):
            return json.loads(text)
        if file.endswith(".toml"):
            return tomllib.loads(text)
    except ValueError as error:
        raise UserError(f"{file}: {error}.\nMend that and run again.") from None
    return yaml_file.parse(text, file)


def _running(
    stages: Mapping[str, pipeline.Stage], modules: Sequence[str], named: str
) -> pipeline.Stage | None:
    """The stage that runs one of the modules: DVC's, or the one of this process's arguments."""
    if named in stages and not stages[named].module:
        return stages[named]  # by a cmd that hides what it runs
    found = [stage for stage in stages.values() if stage.module in modules]
    chosen = [stage for stage in found if stage.name == named]
    if not chosen and len(found) > 1:
        chosen = [
            stage
            for stage in found
            if not stage.strange
            and pipeline.arguments(stage.resolved(_params()).command) == sys.argv[1:]
        ]
    return next(iter(chosen or found), None)


def _params() -> dict[str, Any]:
    path = Path(pipeline.PARAMS)
    text = yaml_file.text_of(path, pipeline.PARAMS) if path.is_file() else ""
    return yaml_file.parse(text, pipeline.PARAMS) or {}


def parameter_files(stage: Declared | None) -> dict[str, bytes]:
    """The contents of the files whose parameters a stage declares, where they are there."""
    names = sorted({file for file, _ in stage.params}) if stage else []
    with enforcement.unwatched():
        return {name: Path(name).read_bytes() for name in names if Path(name).is_file()}


def parameters_differ(stage: Declared | None, before: Mapping[str, bytes]) -> bool:
    """Whether a parameter that a stage declares is not what it was in earlier contents."""
    now = parameter_files(stage)
    return now != before and parameters(stage, now) != parameters(stage, before)


def parameters(
    stage: Declared | None, contents: Mapping[str, bytes] | None = None
) -> dict[str, str]:
    """What each parameter that a stage declares is, in words, by file and key.

    Args:
        stage: None for none.
        contents: Of the files; those that are there if None.
    """
    contents = parameter_files(stage) if contents is None else contents
    parsed: dict[str, Any] = {}
    for file, content in contents.items():
        parsed[file] = content  # the whole of it, if it is a program
        if file.endswith(PARAMETERS):
            parsed[file] = parse(content.decode("utf-8-sig", "replace"), file)
    found = {}
    for file, key in stage.params if stage else ():
        value = parsed.get(file)
        try:
            value = pipeline.lookup(value, key) if key and isinstance(value, dict) else value
        except UserError:  # an optional one that is not there
            value = None
        found[f"{file}: {key}"] = repr(value)
    return found


def check_inputs(stage: Declared) -> None:
    """Compares every input that an earlier stage made with what dvc.lock recorded of it.

    By hand, stages may have been run since dvc.lock was written: then a difference is told. When
    DVC runs the stage, its lock is current, and a difference is damage.

    Raises:
        UserError: DVC runs the stage, and an input is not what was recorded.
    """
    if not Path(pipeline.LOCK).is_file():
        return
    outs = {
        path: (name, digest)
        for name, entry in pipeline.load_lock(Path()).items()
        for path, digest in entry.outs.items()
        if digest and name != stage.stage
    }
    for dep in stage.deps:
        for out, (maker, digest) in outs.items():
            if pipeline.within(dep, out) and Path(dep).exists():
                for path, expected, actual in differences(Path(out), digest):
                    _tell(path, maker, expected, actual)


def differences(
    path: Path, digest: str, cache: Path = Path(".dvc/cache/files/md5")
) -> Iterator[tuple[Path, str, str]]:
    """The files of an out that differ from their MD5: path, MD5 expected, MD5 there.

    It is the whole folder where DVC's cache has no list of its files.
    """
    if not digest.endswith(".dir"):
        if (actual := md5(path)) != digest:
            yield path, digest, actual
        return
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    there = {file.relative_to(path).as_posix(): md5(file) for file in files}
    if tree(there) == digest:
        return
    hashed = pipeline.hashed(files)  # a file of an editor or of the system may lie beside them
    there = {name: there[name] for name in there if path / name in hashed}
    if (whole := tree(there)) == digest:
        return
    expected = _listing(cache, digest)
    if not expected:
        yield path, digest, whole
    for name in sorted({*expected, *there}):
        if expected and expected.get(name) != there.get(name):
            yield path / name, expected.get(name, ""), there.get(name, "")


def tree(files: Mapping[str, str]) -> str:
    """The name that DVC gives a folder, of the MD5 of each file by its path in it."""
    entries = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    text = json.dumps(entries, sort_keys=True).encode()
    return hashlib.md5(text, usedforsecurity=False).hexdigest() + ".dir"


def md5(path: Path) -> str:
    """The MD5 of a file; empty when there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _listing(cache: Path, digest: str) -> dict[str, str]:
    """The files of a folder as DVC's cache lists them; none where there is no sound list."""
    path = cache / digest[:2] / digest[2:]
    if md5(path) != digest.removesuffix(".dir"):
        return {}
    try:
        return {entry["relpath"]: entry["md5"] for entry in json.loads(path.read_bytes())}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _tell(path: Path, maker: str, expected: str, actual: str) -> None:
    name = path.as_posix()
    if "DVC_ROOT" not in os.environ:
        print(
            f"{name}: not the one that {pipeline.LOCK} has of {maker}; made by hand since?",
            file=sys.stderr,
        )
        return
    raise UserError(
        f"{name}: expected what {maker} made, MD5 {expected or 'none'}, found "
        f"{actual or 'none'}: it was overwritten, or DVC's cache is damaged.\n"
        "Run `python -m tools.audit --mend`, which removes what is damaged, then `dvc repro`."
    )
