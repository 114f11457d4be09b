"""What is settled before a stage's first line runs: streams, interruptions, the watch."""

import atexit
import io
import itertools
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from stages.lib.core import enforcement
from stages.lib.core.errors import message_at_import

STARTED = time.time_ns()  # code that is saved from here on is not what was imported
_asked_to_end = False
PACKAGE = Path(__file__).parents[2].name


def modules() -> list[str]:
    """The modules that this process was started for, as paths without ``.py``.

    The command line is read, and not ``__main__``, which a debugger or coverage stands in for.
    """
    names = []
    for before, word in itertools.pairwise(sys.orig_argv):
        if before in ("-m", "--module"):
            names.append(word.replace(".", "/"))
        elif word.endswith(".py"):
            path = Path(os.path.normpath(word))
            known = path.parent.name == PACKAGE  # by whatever way it was reached
            names.append((Path(PACKAGE, path.name) if known else path).as_posix()[:-3])
            break  # what follows are its arguments
    return names


def begin() -> None:
    """Prepares the process when it is one of a stage."""
    if any(name.startswith(f"{PACKAGE}/") for name in modules()):
        _open_streams()
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, ask_to_end)
        sys.excepthook = _last_words
        sys.unraisablehook = _last_words_of_an_object
        threading.excepthook = _last_words_of_a_thread
        enforcement.start(Path.cwd())
        atexit.register(_last_look)  # first registered, last called


def ask_to_end(*_: object) -> NoReturn:
    """Raises what Ctrl+C raises, and remembers it: C code makes other errors of it."""
    global _asked_to_end
    _asked_to_end = True
    raise KeyboardInterrupt


def asked_to_end(error: BaseException) -> bool:
    """Whether it is Ctrl+C that an error comes from."""
    return _asked_to_end or isinstance(error, KeyboardInterrupt)


def end_if_asked() -> None:
    """Raises what Ctrl+C raises where some library has taken it for an import that failed."""
    if _asked_to_end:
        raise KeyboardInterrupt


def interrupted() -> NoReturn:
    """Ends the process after Ctrl+C, with a word and status 130."""
    sys.stdout.flush()
    print("\nInterrupted; nothing half-made was left behind.", file=sys.stderr, flush=True)
    os._exit(130)  # without waiting for TensorFlow's threads


class _Patient(io.FileIO):
    """A stream whose reader may have gone: what nobody reads is dropped, and the work goes on.

    What cannot be written for another reason is an error that names the stream, once: what would
    be written after it, at the end of the process at the latest, is dropped.
    """

    broken = False

    def write(self, content: bytes) -> int:  # type: ignore[override]
        size = memoryview(content).nbytes
        if self.broken:
            return size
        try:
            return super().write(content)
        except BrokenPipeError:
            return size
        except OSError as error:
            self.broken = True
            error.filename = "standard output" if self.fileno() == 1 else "standard error"
            raise


def _open_streams() -> None:
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed, and the next file that is opened would take its place
            os.open(os.devnull, os.O_RDWR)
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        setattr(
            sys,
            name,
            io.TextIOWrapper(
                io.BufferedWriter(_Patient(number, "w", closefd=False)),
                encoding=stream.encoding if stream else "utf-8",
                errors="backslashreplace" if number == 2 else "replace",
                line_buffering=number == 2 or os.isatty(number),
                write_through=bool(stream and getattr(stream, "write_through", False)),
            ),
        )


def _last_words(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Says what ended the stage while it was still importing."""
    if asked_to_end(error):
        interrupted()
    if text := enforcement.refusal() or message_at_import(error):
        print(f"ERROR: {text}", file=sys.stderr)
        return
    with enforcement.unwatched():  # Python reads the lines of code that it shows
        sys.__excepthook__(kind, error, trace)


def _last_look() -> None:
    """Fails the stage for what was refused, be it after its work, while it exits."""
    message, told = enforcement.close()
    if message:
        sys.stdout.flush()
        print("" if told else f"ERROR: {message}\n", end="", file=sys.stderr, flush=True)
        os._exit(1)


def _last_words_of_a_thread(ended: threading.ExceptHookArgs) -> None:
    """Leaves what was refused to the end of the stage, which tells it."""
    if not isinstance(ended.exc_value, enforcement.Refused):
        with enforcement.unwatched():
            threading.__excepthook__(ended)


def _last_words_of_an_object(ended: "sys.UnraisableHookArgs") -> None:
    if not isinstance(ended.exc_value, enforcement.Refused):
        with enforcement.unwatched():
            sys.__unraisablehook__(ended)
