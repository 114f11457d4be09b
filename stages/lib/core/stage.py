"""How a stage runs: settings first, then the work, then a check that nothing moved meanwhile."""

import copy
import gc
import hashlib
import io
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from stages.lib.core import enforcement, files, launch, pipeline, recorded
from stages.lib.core.enforcement import Declared
from stages.lib.core.errors import UserError, message
from stages.lib.core.launch import interrupted

__all__ = ["interrupted", "key", "run"]

T = TypeVar("T")
Stamp = tuple[int, int]  # size and time of change
_declared: Declared | None = None  # of the running stage


def run(
    read: Callable[[], T],
    main: Callable[[T], Callable[[], None] | None],
    inputs: Sequence[Path] = (),
) -> None:
    """Runs ``main(read())`` and ends the process with status 1 on an error of the user's.

    DVC hashes code, parameters and inputs when a stage has ended. Were they edited while it ran,
    the result of the old ones would be recorded under the name of the new ones. So they are
    compared here, before and after; if they differ the stage fails and DVC records nothing.

    Args:
        read: Gives the settings of the stage, the same ones whenever the files are the same.
        main: Does the work, reads the inputs and writes the outputs. It may return a function
            without arguments, which is called once the result is accepted.
        inputs: The data files that ``main`` reads, beside those that dvc.yaml declares.
    """
    global _declared
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a name in Chinese on a terminal without
    gc.freeze()  # modules stay: no collection has to walk over them
    # Asked to end, by a job scheduler say, a stage cleans up as after Ctrl+C.
    signal.signal(signal.SIGTERM, launch.ask_to_end)
    try:
        with enforcement.unwatched():
            _declared = recorded.declared()
            if _declared:
                recorded.check_inputs(_declared)
                inputs = list({*inputs, *map(Path, _declared.deps)})
            _refuse_later_time_stamps(_sources())
        if _declared:
            enforcement.judge(_declared)
        code, settings, stamps = _sources(), read(), _stamps(inputs)
        texts = recorded.parameter_files(_declared)
        before = _copy(settings)  # main may change them
        launch.end_if_asked()
        once_accepted = main(settings)
        launch.end_if_asked()
        if not _same(read(), before) or recorded.parameters_differ(_declared, texts):
            raise _moved("The configuration")
        if _differ(stamps, _stamps(inputs)):
            raise _moved("An input file")
        now = _sources()
        if any(now.get(path) != digest for path, digest in code.items()):
            raise _moved("The code")
        if any(_saved_since_start(path) for path in now):
            raise _moved("The code")
        enforcement.end()
        sys.stdout.flush()
        if callable(once_accepted):  # and not numbers, say, that somebody's main returns
            once_accepted()
    except BaseException as error:
        if launch.asked_to_end(error):
            interrupted()
        text = enforcement.refusal() or message(error)  # the cause, whatever it led to
        if not text:
            raise
        _fail(text)


def key(settings: object, inputs: Sequence[Path]) -> str:
    """A digest of everything that the result of the running stage depends on.

    Args:
        settings: A dataclass of plain values.
        inputs: The data files that the stage reads, beside those that dvc.yaml declares.
    """
    parts = [repr(settings), *(files.sha256(path) for path in inputs)]
    parts += [f"{path.name} {digest}" for path, digest in sorted(_sources().items())]
    with enforcement.unwatched():
        parts += [f"{key}: {value}" for key, value in recorded.parameters(_declared).items()]
        for path in _hashed(_files(_declared.deps if _declared else ())):
            if path not in inputs:
                parts.append(f"{path.as_posix()} {files.sha256(path)}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _fail(text: str) -> None:
    print(f"ERROR: {text}", file=sys.stderr)
    raise SystemExit(1)


def _moved(what: str) -> UserError:
    return UserError(
        f"{what} of this stage was changed while it ran; its result belongs to neither.\n"
        "Run `dvc repro` again."
    )


def _sources() -> dict[Path, str]:
    """A digest of every source file of stages/, or declared, that this process imported."""
    deps = [str(Path.cwd() / dep) for dep in (_declared.deps if _declared else ())]
    folders = (str(Path(__file__).parents[2]) + os.sep, *(dep + os.sep for dep in deps))
    names = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    paths = {
        Path(name)
        for name in names
        if isinstance(name, str) and (name.startswith(folders) or name in deps)
    }
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "gone"
        for path in paths
    }


def _saved_since_start(path: Path) -> bool:
    return path.is_file() and path.stat().st_mtime_ns > launch.STARTED


def _refuse_later_time_stamps(sources: Iterable[Path]) -> None:
    """Refuses before the work what would be refused after it, by a clock that is ahead say."""
    for path in sources:
        if _saved_since_start(path):
            name = os.path.relpath(path).replace(os.sep, "/")
            raise UserError(
                f"{name}: expected a time stamp before the start of this stage, found "
                f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(path.stat().st_mtime))}.\n"
                "If it was saved just now, run again; if the clock was ahead, `touch` it first."
            )


def _stamps(inputs: Sequence[Path]) -> dict[Path, Stamp]:
    """Size and time of change of each input that is there, and of every file in its folders."""
    with enforcement.unwatched():
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in _files(inputs)}


def _hashed(paths: Iterable[Path]) -> list[Path]:
    """The files of deps that DVC hashes, in order: in a folder not those that .dvcignore names."""
    every = set(paths)
    named = {Path(dep) for dep in (_declared.deps if _declared else ())}
    return sorted(every & named | pipeline.hashed(every))


def _differ(before: dict[Path, Stamp], after: dict[Path, Stamp]) -> bool:
    """Whether a file changed, came or went that DVC hashes."""
    changed = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    if not changed:
        return False
    with enforcement.unwatched():
        return bool(_hashed(changed))


def _files(paths: Iterable[str | Path]) -> list[Path]:
    """The files that are there, and those in folders, but for what Python keeps beside them."""
    every = [path for given in paths for path in (Path(given), *sorted(Path(given).rglob("*")))]
    return [path for path in every if path.is_file() and "__pycache__" not in path.parts]


def _copy(settings: T) -> T:
    try:
        return copy.deepcopy(settings)
    except Exception:  # whatever a class says that cannot be copied
        return settings


def _same(now: object, before: object) -> bool:
    """Whether settings are equal, also those of classes that do not say so, and arrays."""
    try:
        if now == before:
            return True
    except ValueError:  # of arrays, which are equal or not each number for itself
        pass
    try:
        return pickle.dumps(now) == pickle.dumps(before)
    except Exception:  # whatever a class says that cannot be written
        return repr(now) == repr(before)
