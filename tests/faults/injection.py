"""The operations on files that a stage asks for, counted, and one of them failing or fatal.

``install`` replaces Python's own ways to change a file system: what a stage and its libraries write
through them is seen, write by write. What a library writes in C is not.
"""

import builtins
import errno
import io
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

KINDS = ("open", "write", "fsync", "rename", "unlink", "mkdir", "rmdir")
MODES = ("fails", "keeps failing", "dies", "is interrupted")

_IGNORED = ("/dev/", "/proc/")


@dataclass
class Fault:
    """What happens at the ``number``-th operation of a kind, from 1; 0 is none.

    Attributes:
        kind: One of KINDS.
        number: Which one of its kind.
        mode: One of MODES.
        counts: The operations of each kind so far.
    """

    kind: str = ""
    number: int = 0
    mode: str = "fails"
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))

    def at(self, kind: str, path: object = None) -> None:
        """Counts an operation, and fails, dies or is interrupted when it is the one."""
        self.counts[kind] += 1
        if kind != self.kind or not self.number:
            return
        if self.counts[kind] == self.number or (
            self.mode == "keeps failing" and self.counts[kind] > self.number
        ):
            self._strike(path)

    def _strike(self, path: object) -> NoReturn:
        if self.mode == "dies":
            os._exit(99)
        if self.mode == "is interrupted":
            raise KeyboardInterrupt
        named = [os.fspath(path)] if isinstance(path, str | os.PathLike) else []
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *named)


def install(fault: Fault) -> None:
    """Makes every change of the file system by this process ask ``fault`` first."""
    _before(os, "fsync", fault, "fsync")
    _before(os, "unlink", fault, "unlink")
    _before(os, "remove", fault, "unlink")
    _before(os, "mkdir", fault, "mkdir")
    _before(os, "rmdir", fault, "rmdir")
    _before(os, "rename", fault, "rename")
    _before(os, "replace", fault, "rename")
    _before(os, "sendfile", fault, "write")
    _before(os, "copy_file_range", fault, "write")

    def renames_in_c(event: str, arguments: tuple[Any, ...]) -> None:
        # os.rename and os.replace raise it too, but they are replaced above
        if event == "os.rename" and sys._getframe(1).f_code.co_name == "_exchange":
            fault.at("rename", arguments[1])

    sys.addaudithook(renames_in_c)
    opened = io.open
    io.open = builtins.open = _opener(opened, fault)


def _before(module: Any, name: str, fault: Fault, kind: str) -> None:
    original: Callable[..., Any] | None = getattr(module, name, None)
    if original is None:  # not on this system
        return

    def asked(*arguments: Any, **named: Any) -> Any:
        fault.at(kind, arguments[0] if arguments else None)
        return original(*arguments, **named)

    setattr(module, name, asked)


def _opener(opened: Callable[..., Any], fault: Fault) -> Callable[..., Any]:
    class Raw(io.FileIO):
        def write(self, data: Any, /) -> int:
            fault.at("write")
            return super().write(data)

    def open_file(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **named: Any) -> Any:
        writes = set(mode) & set("wxa+") and not isinstance(file, int)
        if not writes or str(file).startswith(_IGNORED):
            return opened(file, mode, buffering, *rest, **named)
        fault.at("open", file)
        opener = named.pop("opener", None)  # tempfile's
        raw = Raw(file, mode.replace("b", "").replace("t", ""), opener=opener)
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        text = dict(zip(("encoding", "errors", "newline"), rest, strict=False)) | named
        return io.TextIOWrapper(buffered, **text)

    return open_file
