"""The files in a zip or tar archive, read in memory; an archive that attacks is refused by name.

Nothing is ever extracted, so no name can lead out of a folder; such names are refused all the same,
as others would extract them.
"""

import gzip
import io
import re
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from stages.lib.core.errors import UserError

MOST_FILES = 5_000_000
LARGEST_FILE = 1 << 28  # bytes unpacked
LARGEST = 1 << 38  # bytes unpacked of all files

_BLOCK = 512  # bytes; of tar
_UTF8 = 1 << 11  # a flag of zip: the name is in UTF-8
_ENCRYPTED = 1
# What zipfile, tarfile and gzip raise on bytes that are no archive
_BROKEN = (
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive: its path there, with slashes, and its size in bytes."""

    name: str
    size: int


def members(path: Path) -> list[Member]:
    """The files of a zip, tar or tar.gz, in the order in which they lie there.

    Raises:
        UserError: It is none, is cut off, or holds what no archive of images needs: a path that
            leads elsewhere, a link, a device, a name twice or in two cases, or too much.
    """
    with _reading(path):
        if _is_zip(path):
            with zipfile.ZipFile(path) as archive:
                return _checked(path, ((_name(info), info) for info in archive.infolist()))
        with _tar(path) as opened:
            return _checked(path, ((member.name, member) for member in _each(opened)))


def contents(path: Path, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files called ``names``, in the order in which they lie there.

    Raises:
        UserError: A file cannot be unpacked.
    """
    with _reading(path):
        if _is_zip(path):
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    name = _clean(_name(info))
                    if name in names and not info.is_dir():
                        yield name, archive.read(info)
            return
        with _tar(path) as opened:
            for member in _each(opened):
                name = _clean(member.name)
                stream = opened.extractfile(member) if name in names else None
                if stream is not None:
                    content = stream.read()
                    if len(content) != member.size:
                        raise EOFError("it ends early")
                    yield name, content


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Tells what the libraries raise on a damaged archive as an error of the user's."""
    try:
        yield
    except _BROKEN as error:
        if isinstance(error, OSError) and error.filename:  # it cannot be opened
            raise
        reason = " ".join(str(error).split())[:160].rstrip(".") or type(error).__name__
        raise UserError(
            f"{path.as_posix()}: expected a whole zip, tar or tar.gz archive, found: {reason}.\n"
            "Pack it again, or fetch it again if it was cut off."
        ) from None


def _is_zip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"PK"


@contextmanager
def _tar(path: Path) -> Iterator[tarfile.TarFile]:
    with path.open("rb") as packed:
        start = packed.read(2)
        packed.seek(0)
        if start == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=packed) as unpacked:
                yield from _opened(unpacked)
        else:
            yield from _opened(packed)


def _opened(stream: object) -> Iterator[tarfile.TarFile]:
    """One tar archive, of which the caller takes all members before it is closed."""
    bounded = _Bounded(cast(BinaryIO, stream))
    with tarfile.open(fileobj=cast(BinaryIO, bounded), mode="r:") as archive:
        yield archive
        if bounded.last != bytes(_BLOCK):  # tarfile takes whatever is no header for the end
            raise EOFError("no end mark, so that it was cut off")
        bounded.read(1 << 20)  # the padding; where it ends, gzip compares its checksum


def _each(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members of a tar archive one by one; those before are forgotten."""
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined] # the stub lacks it
        yield member


class _Bounded(io.RawIOBase):
    """A stream of which no more is read at once than a file may hold, whatever a header states."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        self.last = b""  # what was read last

    def read(self, size: int = -1) -> bytes:
        """Reads as ``BinaryIO.read`` does."""
        if not 0 <= size <= LARGEST_FILE:
            raise ValueError(f"a header that states {size:,} bytes")
        self.last = self._stream.read(size)
        return self.last

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Seeks as ``BinaryIO.seek`` does."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """The position, as ``BinaryIO.tell`` gives it."""
        return self._stream.tell()


def _name(info: zipfile.ZipInfo) -> str:
    """A name in a zip: some write UTF-8 and do not say so."""
    if not info.flag_bits & _UTF8:
        try:
            return info.orig_filename.encode("cp437").decode("utf-8")
        except UnicodeError:
            pass
    return info.orig_filename


def _clean(name: str) -> str:
    """A name as it is compared and shown: composed letters, slashes, nothing superfluous."""
    parts = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def _checked(
    path: Path, entries: Iterator[tuple[str, zipfile.ZipInfo | tarfile.TarInfo]]
) -> list[Member]:
    files: list[Member] = []
    spellings: dict[str, str] = {}
    folders: dict[str, str] = {}
    total = 0
    for raw, entry in entries:
        name = _clean(raw)
        problem = _problem(raw, entry)
        is_folder = entry.is_dir() if isinstance(entry, zipfile.ZipInfo) else entry.isdir()
        if not problem and not is_folder:
            size = entry.file_size if isinstance(entry, zipfile.ZipInfo) else entry.size
            total += size
            files.append(Member(name, size))
            problem = _excess(len(files), size, total) or _clash(name, spellings, folders)
        if problem:
            raise UserError(
                f"{path.as_posix()}: {_shown(raw)}: expected a file that an archive of images may "
                f"hold, found {problem}.\nPack it again without that."
            )
    return files


def _problem(raw: str, entry: zipfile.ZipInfo | tarfile.TarInfo) -> str:
    """Why an entry is refused by itself; empty when it is not."""
    name = raw.replace("\\", "/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "an absolute path"
    if ".." in name.split("/"):
        return "a path that leads out of the archive"
    if re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", name):
        return "a name with control characters, or not in UTF-8"
    if isinstance(entry, tarfile.TarInfo):
        if entry.issym() or entry.islnk():
            return "a link"
        if entry.issparse() or not (entry.isreg() or entry.isdir()):
            return "a device or another special file"
        return ""
    stated = entry.flag_bits & _UTF8 or raw != entry.orig_filename  # or seen to be UTF-8
    if not stated and re.search("[\u2500-\u259f]", name):
        # lines and boxes of CP437, which it would be by rule: letters of GBK
        return "a name in an encoding that it does not state, and not in UTF-8"
    if entry.flag_bits & _ENCRYPTED:
        return "a file that needs a password"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "a file packed by another method than stored or deflated"
    kind = stat.S_IFMT(entry.external_attr >> 16) if entry.create_system == 3 else 0
    if kind == stat.S_IFLNK:
        return "a link"
    return "a device or another special file" if kind not in (0, stat.S_IFREG, stat.S_IFDIR) else ""


def _excess(count: int, size: int, total: int) -> str:
    if count > MOST_FILES:
        return f"more than {MOST_FILES:,} files"
    if size > LARGEST_FILE:
        return f"{size:,} bytes unpacked, more than {LARGEST_FILE:,}"
    return f"more than {LARGEST:,} bytes unpacked in all" if total > LARGEST else ""


def _clash(name: str, spellings: dict[str, str], folders: dict[str, str]) -> str:
    """Why a name and those before it are not to be in one folder; empty when they are."""
    folded = name.casefold()
    if folded in folders:
        return "a name that is a folder too"
    if folded in spellings:
        other = spellings[folded]
        return "the name twice" if other == name else f"a name that differs from {other} in case"
    spellings[folded] = name
    parent = name.rpartition("/")[0]
    while parent:
        known = folders.get(parent.casefold())
        if known == parent:
            break
        if known is not None:
            return f"a folder that differs from {known} in case"
        if parent.casefold() in spellings:
            return "a folder that is a file too"
        folders[parent.casefold()] = parent
        parent = parent.rpartition("/")[0]
    return ""


def _shown(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)[:200]
