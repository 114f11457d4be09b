"""Verified files from a cache, a mirror or their published addresses.

Every file is known by its SHA-256, so it does not matter where it comes from. HTTP transfers are
pooch's.
"""

import os
import re
import shutil
import sys
import time
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pooch  # type: ignore[import-untyped] # it has no types
import requests

from stages.lib.core import files
from stages.lib.core.errors import UserError

_PAUSES = (1.0, 2.0, 4.0)  # seconds between the rounds over all addresses
_TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two pieces of data
_LARGEST = 16 << 30  # bytes; of a file whose size the catalogue does not state


@dataclass(frozen=True)
class RemoteFile:
    """A file of a data set.

    Attributes:
        folder: The data set; the folder of the file in mirrors and in the cache.
        name: Its file name.
        sha256: The SHA-256 of its content in hexadecimal.
        urls: The folders that publish it.
        size: Its size in bytes, where the catalogue states it; no more is taken from a server.
        instead: What to set in params.yaml to do without the file.
    """

    folder: str
    name: str
    sha256: str
    urls: Sequence[str]
    size: int | None = None
    instead: str = "dataset: digits"


class _UnavailableError(Exception):
    """An address that does not give the file; ``again`` says whether a later try may."""

    def __init__(self, why: str, again: bool) -> None:
        super().__init__(why)
        self.again = again


def cache_folder() -> Path:
    """DATASET_CACHE, or a folder of this project's in the user's cache folder."""
    folder = os.environ.get("DATASET_CACHE") or pooch.os_cache("image-classification-datasets")
    return Path(folder).expanduser().absolute()


def fetch(file: RemoteFile) -> Path:
    """The path of the verified file in the cache, fetched when it is not there yet.

    Sources in order: the cache, DATASET_MIRROR (a folder or a URL prefix, laid out as
    DATASET/FILE), the published addresses. Addresses that do not answer are tried again after
    growing pauses.

    Raises:
        UserError: No source has the file, the one in a mirror folder has another content, or the
            cache cannot be written.
    """
    cached = cache_folder() / file.folder / file.name
    try:
        if cached.is_file() and files.sha256(cached) == file.sha256:
            return cached
        return _fetch(file, cached)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        raise UserError(
            f"{place}{error.strerror or error}; the cache is {cached.parents[1].as_posix()}.\n"
            "Make room there or mend its permissions, or set DATASET_CACHE to another folder."
        ) from None


def _fetch(file: RemoteFile, cached: Path) -> Path:
    mirror = os.environ.get("DATASET_MIRROR", "")
    if mirror and "://" not in mirror:
        local = Path(mirror).expanduser() / file.folder / file.name
        if local.is_file():
            return _copy(local, cached, file)
        _note(f"DATASET_MIRROR has no {local.as_posix()}; trying the published addresses.")
    prefixes = [f"{mirror.rstrip('/')}/{file.folder}"] if "://" in mirror else []
    return _download([*prefixes, *file.urls], cached, file)


def _copy(source: Path, target: Path, file: RemoteFile) -> Path:
    with files.replacing(target) as temporary:
        shutil.copyfile(source, temporary)
        found = files.sha256(temporary)
        if found != file.sha256:
            raise UserError(
                f"{source.as_posix()}: expected SHA-256 {file.sha256}, found {found} "
                f"in {source.stat().st_size:,} bytes.\n"
                "Replace the file by the published one, or unset DATASET_MIRROR to fetch that."
            )
    return target


def _download(prefixes: Sequence[str], target: Path, file: RemoteFile) -> Path:
    name = urllib.parse.quote(file.name)
    addresses = [f"{prefix.rstrip('/')}/{name}" for prefix in prefixes]
    reasons: dict[str, str] = {}
    for pause in (*_PAUSES, None):
        for address in list(addresses):
            try:
                return _retrieve(address, target, file)
            except _UnavailableError as error:
                reasons[address] = str(error)
                _note(f"  {error}")
                if not error.again:
                    addresses.remove(address)
        if not addresses or pause is None:
            break
        _note(f"{file.name}: trying again in {pause:g} s")
        time.sleep(pause)
    where = f"{file.folder}/{file.name}"
    tried = "; ".join(f"{_shown(address)} ({why})" for address, why in reasons.items())
    raise UserError(
        f"{where}: could not be fetched; tried {tried or 'nothing, as no address is known'}.\n"
        f"Set DATASET_MIRROR to a folder or URL that holds {where}, or put the file at "
        f"{target.as_posix()}, or set `{file.instead}` in params.yaml, which needs no network."
    )


def save(address: str, target: Path) -> None:
    """Writes what an address gives, of which no SHA-256 is known yet.

    Raises:
        UserError: It gives nothing, or a web page.
    """
    try:
        with files.replacing(target) as temporary:
            _receive(address, temporary, _LARGEST)
    except _UnavailableError as error:
        raise UserError(
            f"{_shown(address)}: could not be fetched ({error}).\n"
            "Try it in a browser, or fetch it by hand and give its path."
        ) from None


def _retrieve(address: str, target: Path, file: RemoteFile) -> Path:
    """One try at one address: into a temporary file, verified, moved into place."""
    with files.replacing(target) as temporary:
        _receive(address, temporary, file.size or _LARGEST)
        digest = files.sha256(temporary)
        if digest != file.sha256:
            why = f"expected SHA-256 {file.sha256}, found {digest}"
            raise _UnavailableError(why, False)
    return target


def _receive(address: str, temporary: Path, size: int) -> None:
    _note(f"Fetching {_shown(address)}")
    try:
        with temporary.open("wb") as stream:
            _http(address, _Bounded(stream, size))
    except requests.RequestException as error:
        if error.response is not None:
            error.response.close()
        raise _unavailable(error) from None
    except ValueError:  # urllib3's on an address that is none
        raise _UnavailableError("no usable address", False) from None
    with temporary.open("rb") as received:
        if received.read(64).lstrip()[:1] == b"<":
            raise _UnavailableError("a web page instead of data", False)


class _Bounded:
    """A stream that takes no more than a file's size, whatever a server goes on sending."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size, self._left = stream, size, size

    def write(self, data: bytes) -> int:
        """Writes a piece, as ``BinaryIO.write`` does."""
        self._left -= len(data)
        if self._left < 0:
            raise _UnavailableError(f"more than the expected {self._size:,} bytes", False)
        return self._stream.write(data)

    def flush(self) -> None:
        """Does nothing, as the stream is flushed when it is closed."""


def _unavailable(error: requests.RequestException) -> _UnavailableError:
    """What went wrong in a user's words, and whether it may go right the next time."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
        return _UnavailableError(f"HTTP status {status}", status in (408, 429) or status >= 500)
    if isinstance(error, requests.exceptions.SSLError):
        return _UnavailableError("its certificate was not accepted", False)
    if isinstance(error, requests.exceptions.ProxyError):
        return _UnavailableError("the proxy did not connect", True)
    if isinstance(error, requests.Timeout):
        return _UnavailableError("no answer in time", True)
    if isinstance(error, (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        cause = repr(error)
        if "NameResolution" in cause:
            return _UnavailableError("no such host, or no network", True)
        refused = "NewConnection" in cause
        return _UnavailableError("refused or unreachable" if refused else "broken off", True)
    return _UnavailableError(f"no usable address: {type(error).__name__}", False)


def _http(url: str, stream: _Bounded) -> None:
    """An HTTP transfer, with a progress bar on a terminal."""
    pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        timeout=_TIMEOUT,
        headers={"Accept-Encoding": "identity"},
        hooks={"response": _keep_packed},
    )(url, stream, None)


def _keep_packed(response: requests.Response, **_: object) -> None:
    """Lets a .gz file be what is stored, where a server calls gzip its encoding in transfer."""
    response.raw.headers.pop("Content-Encoding", None)


def _shown(address: str) -> str:
    """An address without the password that a mirror's may hold."""
    return re.sub(r"//[^/@]*@", "//***@", address)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
