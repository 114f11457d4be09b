"""Files that appear whole or not at all."""

import contextlib
import csv
import hashlib
import json
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from stages.lib.core.errors import UserError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; moves it into place when the block succeeds.

    Works for files and for folders, whose old content is replaced entirely. Whatever ends the
    block early leaves the old content untouched and no temporary file behind.
    """
    token = secrets.token_hex(4)  # a process number may come again, in containers above all
    temporary = path.with_name(f".{path.name}.{token}.tmp")
    old = path.with_name(f".{path.name}.{token}.old.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        if path.is_dir():  # nothing can be moved onto a folder that is not empty
            path.replace(old)
        temporary.replace(path)
    finally:
        _remove(temporary)
        _remove(old)


def _remove(path: Path) -> None:
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
