"""The parameters that each stage reads, by reading them: ``python observed.py STAGES``.

The stages are loaded with everything heavy replaced by stand-ins, up to ``stage.run``, and the
function that they hand to it is called, once for each params file. It runs in a process of its own.
"""

import json
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from stages.lib.core import enforcement
from stages.lib.core.errors import UserError
from tools.lib import stand_ins

HEAVY = ("keras", "tensorflow", "matplotlib", "PIL", "pooch", "requests", "zlib_ng", "h5py")


@dataclass(frozen=True)
class Observation:
    """What reading the settings of one stage showed.

    Attributes:
        params: Pairs of a file and a key, without those inside a section that was read whole.
        modules: Source files of the repository that were loaded.
        error: Why the settings could not be read; else empty.
    """

    params: frozenset[tuple[str, str]]
    modules: frozenset[str]
    error: str


def observe(
    root: Path,
    commands: Mapping[str, Sequence[str]],
    texts: Mapping[str, str],
    files: Iterable[str],
) -> dict[str, Any]:
    """What every stage reads with every params file.

    Args:
        root: The top folder of the repository.
        commands: By the name of a stage its module, as ``stages/NAME``, and its arguments.
        texts: The params files: their names and contents.
        files: Other files and folders that are there when the settings are read.

    Returns:
        By the name of the params file, by stage, an ``Observation``.
    """
    given = {"root": str(root), "commands": dict(commands), "texts": dict(texts)}
    here = Path(__file__).parents[2]
    paths = filter(None, (str(root), str(here), os.environ.get("PYTHONPATH")))
    environment = {
        **os.environ,
        "PYTHONIOENCODING": "utf-8",
        "PYTHONPATH": os.pathsep.join(paths),
    }
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "answer"
        done = subprocess.run(  # noqa: S603 own words
            [sys.executable, "-B", "-m", "tools.audit.observed", str(record)],
            cwd=root,
            env=environment,
            input=json.dumps({**given, "files": list(files)}),
            capture_output=True,
            encoding="utf-8",
            errors="replace",  # a stage may write any bytes
            check=False,
        )
        if done.returncode or not record.is_file():
            reason = (done.stderr.strip().splitlines() or ["Python ended early"])[-1]
            raise UserError(
                f"the stages could not be loaded: {reason}.\nRun the stage itself, which says more."
            )
        answer = json.loads(record.read_text(encoding="utf-8"))
    return {
        file: {
            name: Observation(
                frozenset((read, key) for read, key in seen["params"]),
                frozenset(seen["modules"]),
                seen["error"],
            )
            for name, seen in stages.items()
        }
        for file, stages in answer.items()
    }


def outermost(pairs: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs that no other one covers."""

    def covered(pair: tuple[str, str]) -> bool:
        return any(
            file == pair[0] and key != pair[1] and enforcement.covers(key, *pair)
            for file, key in pairs
        )

    return sorted(pair for pair in pairs if not covered(pair))


def _files(names: Iterable[str], root: Path) -> list[str]:
    """The source files of the repository among loaded modules.

    An environment inside the repository, whatever its name, is no part of it.
    """
    installed = [
        folder
        for folder in (Path(sys.prefix), Path(sys.base_prefix))
        if not root.is_relative_to(folder)
    ]
    named = [getattr(sys.modules[name], "__file__", None) for name in names]
    paths = [Path(name) for name in named if isinstance(name, str)]
    return [
        path.relative_to(root).as_posix()
        for path in paths
        if path.is_relative_to(root)
        and "site-packages" not in path.parts
        and not any(path.is_relative_to(folder) for folder in installed)
    ]


@dataclass(frozen=True)
class _Loaded:
    """A stage that was run up to ``stage.run``.

    Attributes:
        command: Its module and arguments.
        reader: Reads its settings; nothing where it did not come so far.
        error: Why not; else empty.
        params: What it read on the way.
        modules: The source files that it loaded.
    """

    command: list[str]
    reader: Callable[[], object]
    error: str
    params: set[tuple[str, str]]
    modules: set[str]


def _listen(params: set[tuple[str, str]]) -> None:
    """Notes in ``params`` what is read from here on."""
    from stages.lib.core import config

    raw, one_of = config.read, config.one_of

    def read(file: str) -> dict[str, Any]:
        frame = sys._getframe(1)
        name = frame.f_code.co_filename.replace("\\", "/")
        if not name.endswith(("core/config.py", "data/catalogue.py")):
            params.add((file, ""))  # all of it, by whoever calls it directly
        return raw(file)

    def of_any(name: str, allowed: Iterable[str], where: str) -> str:
        names = list(allowed)  # a stand-in for Keras knows no names of optimizers
        return one_of(name, names or [name], where)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "stages.param":
            params.add((str(arguments[0]), str(arguments[1])))

    config.read, config.one_of = read, of_any
    sys.addaudithook(hook)


def _load(command: list[str], params: set[tuple[str, str]], root: Path) -> _Loaded:
    """A stage, run up to ``stage.run``."""
    from stages.lib.core import stage

    params.clear()
    present, readers, error = set(sys.modules), list[Callable[[], object]](), ""

    def run(read: Callable[[], object], *_: object, **__: object) -> None:
        readers.append(read)

    with mock.patch.object(stage, "run", run), mock.patch.object(sys, "argv", command):
        try:
            runpy.run_module(command[0].replace("/", "."), run_name="__main__")
            error = "" if readers else "it does not call stage.run"
        except (Exception, SystemExit) as raised:
            error = _words(raised)
    new = set(sys.modules) - present
    reader = (readers or [lambda: None])[-1]
    loaded = _Loaded(command, reader, error, set(params), set(_files(new, root)))
    _forget(new, "stages.")
    return loaded


def _read(loaded: _Loaded, params: set[tuple[str, str]], root: Path) -> dict[str, Any]:
    """What a stage reads, for the params.yaml of the working folder."""
    params.clear()
    before, reason = set(sys.modules), loaded.error
    try:
        with mock.patch.object(sys, "argv", loaded.command):
            loaded.reader()
    except (Exception, SystemExit) as failure:
        reason = reason or _words(failure)
    new = set(sys.modules) - before
    files = {*_files(new, root), *loaded.modules}
    _forget((name for name in new if not name.startswith("stages.lib.")), "stages.")
    return {
        "params": outermost(params | loaded.params),
        "modules": sorted(files),
        "error": " ".join(reason.split()),
    }


def _words(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it exits with {error.code}"
    if isinstance(error, UserError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _forget(names: Iterable[str], package: str) -> None:
    """Unloads modules of a package, or the next stage would not load them."""
    for name in names:
        if name.startswith(package):
            del sys.modules[name]


def _lay(path: Path, place: Path) -> None:
    """A link to a file or folder, or where there are none a copy of the file."""
    if not path.exists() or place.exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        place.symlink_to(path)
    except OSError:  # Windows, for most users
        if path.is_file():
            place.write_bytes(path.read_bytes())


def _main() -> None:
    given = json.load(sys.stdin)
    root, params = Path(given["root"]), set[tuple[str, str]]()
    sys.path.insert(0, str(root))
    _listen(params)
    os.chdir(root)
    loaded = {name: _load(command, params, root) for name, command in given["commands"].items()}
    answer: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in root.glob("*.yaml"):
            (Path(folder) / path.name).write_bytes(path.read_bytes())
        for name in sorted(given["files"]):
            _lay(root / name, Path(folder) / name)
        os.chdir(folder)
        for file, text in given["texts"].items():
            Path("params.yaml").write_text(text, encoding="utf-8")
            answer[file] = {name: _read(each, params, root) for name, each in loaded.items()}
        os.chdir(root)
    Path(sys.argv[1]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    with stand_ins.instead_of(*HEAVY):
        _main()
