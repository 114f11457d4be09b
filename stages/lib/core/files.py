"""Files that appear whole or not at all."""

import contextlib
import csv
import ctypes
import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from stages.lib.core.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# .NAME.TOKEN.tmp is being written (Keras asks for .keras); .NAME.TOKEN.old.tmp is what NAME was
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}(?P<old>\.old)?\.(tmp|keras)")
_LONG_AGO = 86_400.0  # seconds; where folders cannot be locked, nothing is written for so long


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; moves it into place when the block succeeds.

    Works for files and for folders, whose old content is replaced entirely. Whatever ends the
    block early leaves the old content untouched and no temporary file behind. What a killed
    process left behind in the same folder is removed at the start.

    Raises:
        OSError: Something cannot be written; its ``filename`` is ``path``.
    """
    token = secrets.token_hex(4)  # a process number may come again, in containers above all
    temporary = path.with_name(f".{path.name}.{token}.tmp")
    old = path.with_name(f".{path.name}.{token}.old.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _writing_in(path.parent):
            try:
                yield temporary
                _move(temporary, path, old)
            finally:
                _remove(temporary)
                _remove(old)
    except OSError as error:
        if error.errno is not None and _is_of(error, temporary):
            error.filename, error.filename2 = path.as_posix(), None
        raise


@contextlib.contextmanager
def scratch(path: Path) -> Iterator[BinaryIO]:
    """Yields a temporary file beside ``path`` to write and read; gone when the block ends."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("w+b") as stream:
            yield stream
    except OSError as error:
        if error.errno is not None and _is_of(error, temporary):
            error.filename, error.filename2 = path.as_posix(), None
        raise
    finally:
        _remove(temporary)


def _is_of(error: OSError, temporary: Path) -> bool:
    """Whether an error is about the temporary path: a failing write names no file at all."""
    target = error.filename2 or error.filename
    return target is None or str(target).startswith(str(temporary))


def _move(temporary: Path, path: Path, old: Path) -> None:
    """Moves a file or a folder onto another, which is then gone or called ``temporary``."""
    folders = path.is_dir() or (temporary.is_dir() and os.path.lexists(path))
    if not folders:
        temporary.replace(path)
    elif not _exchange(temporary, path):
        path.replace(old)  # nothing can be moved onto a folder that is not empty
        try:
            temporary.replace(path)
        except BaseException:
            old.replace(path)
            raise


def _exchange(first: Path, second: Path) -> bool:
    """Swaps two paths in one step; false where system or file system knows no such step."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if rename is None:
        return False
    sys.audit("os.rename", os.fspath(first), os.fspath(second), -1, -1)  # as os.rename does
    here, swap = -100, 2  # AT_FDCWD of linux/fcntl.h, RENAME_EXCHANGE of linux/fs.h
    return bool(rename(here, os.fsencode(first), here, os.fsencode(second), swap) == 0)


@contextlib.contextmanager
def _writing_in(folder: Path) -> Iterator[None]:
    """Holds a folder as one that is being written in, and clears it if nobody else holds it.

    The lock is the system's, so it ends with its process, however that ends.
    """
    lock = _lock(folder)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """The open lock; none where the system cannot lock a folder."""
    lock = None
    try:
        if fcntl is None:
            raise OSError(errno.ENOTSUP, "no locks on folders")
        lock = os.open(os.fspath(folder), os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(BlockingIOError):  # others are writing there
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _clear(folder, os.listdir(lock))  # noqa: PTH208 it has no path
        fcntl.flock(lock, fcntl.LOCK_SH)
    except OSError:
        with contextlib.suppress(OSError):
            _clear(folder, [path.name for path in folder.iterdir()], _LONG_AGO)
    return lock


def _clear(folder: Path, names: Iterable[str], age: float = -math.inf) -> None:
    """Removes what killed processes left, and puts back what they had moved out of the way.

    Args:
        folder: Where they wrote.
        names: What it holds.
        age: The seconds without a change after which a file belongs to no running process.
    """
    for name in names:
        match, path = _TEMPORARY.fullmatch(name), folder / name
        if match and time.time() - path.lstat().st_mtime >= age:
            target = folder / match["name"]
            if match["old"] and not os.path.lexists(target):
                path.replace(target)
            else:
                _remove(path)


def _remove(path: Path) -> None:
    """Removes a file or a folder if it can; the next run tries again otherwise."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes ``content``, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Writes UTF-8 text with LF line ends on every platform."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Writes indented JSON, floats finite and rounded by the caller."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a CSV table with LF line ends."""
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Reads a CSV table as one dict a row.

    Raises:
        UserError: The file is missing or no table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except FileNotFoundError:
        raise missing(path) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path.as_posix()}: expected a CSV table in UTF-8, found: {error}.\n"
            "Delete it and run `dvc repro`."
        ) from None


def missing(path: Path) -> UserError:
    """The error for an input that an earlier stage makes."""
    return UserError(
        f"{path.as_posix()}: not found; an earlier stage makes it.\n"
        "Run `dvc repro`, which runs every stage whose inputs changed."
    )


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
