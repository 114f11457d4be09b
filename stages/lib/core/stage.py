"""How a stage runs: settings first, then the work, then a check that nothing moved meanwhile."""

import errno
import gc
import hashlib
import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from stages.lib.core import files
from stages.lib.core.errors import UserError

T = TypeVar("T")

_STARTED = time.time_ns()  # code that is saved from here on is not what was imported


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
        inputs: The data files that ``main`` reads.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a name in Chinese on a terminal without
    gc.freeze()  # modules stay: no collection has to walk over them
    # Asked to end, by a job scheduler say, a stage cleans up as after Ctrl+C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code, settings, stamps = _sources(), read(), _stamps(inputs)
        _refuse_later_time_stamps(_loaded(code))
        once_accepted = main(settings)
        if read() != settings:
            raise _moved("The configuration")
        if _stamps(inputs) != stamps:
            raise _moved("An input file")
        now = _sources()
        used = _loaded({**code, **now})
        if any(code.get(path) != now.get(path) or _saved_since_start(path) for path in used):
            raise _moved("The code")
        if once_accepted:
            once_accepted()
    except UserError as error:
        _fail(str(error))
    except MemoryError as error:
        _fail(f"out of memory: {error}.\nEnd other programs, or set smaller sizes, and run again.")
    except OSError as error:
        _fail(_system_message(error))
    except KeyboardInterrupt:
        interrupted()


def interrupted() -> NoReturn:
    """Ends the process after Ctrl+C, with a word and status 130."""
    sys.stdout.flush()
    print("\nInterrupted; nothing half-made was left behind.", file=sys.stderr, flush=True)
    os._exit(130)  # without waiting for TensorFlow's threads


def key(settings: object, inputs: Sequence[Path]) -> str:
    """A digest of everything that the result of the running stage depends on.

    Args:
        settings: A dataclass of plain values.
        inputs: The data files that the stage reads.
    """
    parts = [repr(settings), *(files.sha256(path) for path in inputs)]
    parts += [f"{path.name} {digest}" for path, digest in _loaded(_sources()).items()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _fail(message: str) -> None:
    print(f"ERROR: {message}", file=sys.stderr)
    raise SystemExit(1)


def _system_message(error: OSError) -> str:
    """What the operating system refused, and where it said so."""
    place = f"{error.filename}: " if error.filename else ""
    step = "Free some space" if error.errno == errno.ENOSPC else "Mend that"
    return f"{place}{error.strerror or error}.\n{step} and run again."


def _moved(what: str) -> UserError:
    return UserError(
        f"{what} of this stage was changed while it ran; its result belongs to neither.\n"
        "Run `dvc repro` again."
    )


def _sources() -> dict[Path, str]:
    """A digest of every source file of the pipeline."""
    folder = Path(__file__).parents[2]
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.py"))
        if path.is_file()  # and no lock of an editor's, a link to nowhere
    }


def _loaded(sources: dict[Path, str]) -> dict[Path, str]:
    """The part of ``sources`` that this process imported."""
    names = [name for name in list(sys.modules) if name == "__main__" or name.startswith("stages.")]
    files = {getattr(sys.modules[name], "__file__", None) for name in names}
    return {path: digest for path, digest in sources.items() if str(path) in files}


def _saved_since_start(path: Path) -> bool:
    return path.stat().st_mtime_ns > _STARTED


def _refuse_later_time_stamps(sources: Iterable[Path]) -> None:
    """Refuses before the work what would be refused after it, by a clock that is ahead say."""
    for path in sources:
        if _saved_since_start(path):
            raise UserError(
                f"{path.as_posix()}: expected a time stamp before the start of this stage, found "
                f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(path.stat().st_mtime))}.\n"
                "If it was saved just now, run again; if the clock was ahead, `touch` it first."
            )


def _stamps(inputs: Sequence[Path]) -> dict[Path, tuple[int, int]]:
    """Size and time of change of each input that is there, and of every file in its folders."""
    paths = [path for given in inputs for path in (given, *given.rglob("*"))]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.exists()}
