"""Verified files from a cache, a mirror or their published addresses.

Every file is known by its SHA-256, so it does not matter where it comes from. HTTP transfers,
their temporary files and their verification are pooch's.
"""

import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests

from stages.lib import files
from stages.lib.errors import UserError

_PAUSES = (1.0, 2.0, 4.0)  # seconds between the rounds over all addresses
_TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two pieces of data


@dataclass(frozen=True)
class RemoteFile:
    """A file of a data set.

    Attributes:
        folder: The data set; the folder of the file in mirrors and in the cache.
        name: Its file name.
        sha256: The SHA-256 of its content in hexadecimal.
        urls: The folders that publish it.
    """

    folder: str
    name: str
    sha256: str
    urls: Sequence[str]


class _Unavailable(Exception):
    """An address that does not give the file; ``again`` says whether a later try may."""

    def __init__(self, why: str, again: bool) -> None:
        super().__init__(why)
        self.again = again


def cache_folder() -> Path:
    """DATASET_CACHE, or a folder of this project's in the user's cache folder."""
    return Path(os.environ.get("DATASET_CACHE") or pooch.os_cache("image-classification-datasets"))


def fetch(file: RemoteFile) -> Path:
    """The path of the verified file in the cache, fetched when it is not there yet.

    Sources in order: the cache, DATASET_MIRROR (a folder or a URL prefix, laid out as
    DATASET/FILE), the published addresses. Addresses that do not answer are tried again after
    growing pauses.

    Raises:
        UserError: No source has the file, or the mirror's has another content.
    """
    cached = cache_folder() / file.folder / file.name
    if cached.is_file() and files.sha256(cached) == file.sha256:
        return cached
    mirror = os.environ.get("DATASET_MIRROR", "")
    if mirror and "://" not in mirror:
        local = Path(mirror) / file.folder / file.name
        if local.is_file():
            return _copy(local, cached, file)
        _note(f"DATASET_MIRROR has no {local.as_posix()}; trying the published addresses.")
    prefixes = [f"{mirror.rstrip('/')}/{file.folder}/"] if "://" in mirror else []
    return _download([*prefixes, *file.urls], cached, file)


def _copy(source: Path, target: Path, file: RemoteFile) -> Path:
    with files.replacing(target) as temporary:
        shutil.copyfile(source, temporary)
        found = files.sha256(temporary)
        if found != file.sha256:
            raise UserError(
                f"{source.as_posix()} (DATASET_MIRROR): expected SHA-256 {file.sha256}, found {found} "
                f"in {source.stat().st_size} bytes.\n"
                "Replace the file by the published one, or unset DATASET_MIRROR to fetch that."
            )
    return target


def _download(prefixes: Sequence[str], target: Path, file: RemoteFile) -> Path:
    open_addresses = [f"{prefix.rstrip('/')}/{file.name}" for prefix in prefixes]
    reasons: dict[str, str] = {}
    for pause in (*_PAUSES, None):
        for address in list(open_addresses):
            try:
                return _retrieve(address, target, file)
            except _Unavailable as error:
                reasons[address] = str(error)
                if not error.again:
                    open_addresses.remove(address)
        if not open_addresses or pause is None:
            break
        _note(f"{file.name}: no address answered; trying again in {pause:g} s.")
        time.sleep(pause)
    tried = "; ".join(f"{address} ({why})" for address, why in reasons.items()) or "no address"
    raise UserError(
        f"{file.folder}/{file.name}: could not be fetched; tried {tried}.\n"
        f"Set DATASET_MIRROR to a folder or URL that holds {file.folder}/{file.name}, or put the file at "
        f"{target}, or set `dataset: digits` in params.yaml, which needs no network."
    )


def _retrieve(address: str, target: Path, file: RemoteFile) -> Path:
    """One try at one address by pooch: into a temporary file, verified, moved into place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    pooch.get_logger().setLevel("ERROR")
    _note(f"{address}")
    try:
        pooch.retrieve(
            address,
            known_hash=f"sha256:{file.sha256}",
            fname=target.name,
            path=target.parent,
            downloader=_http,
        )
    except requests.HTTPError as error:
        status = error.response.status_code
        raise _Unavailable(f"HTTP status {status}", status == 429 or status >= 500) from None
    except requests.Timeout:
        raise _Unavailable("no answer in time", True) from None
    except requests.RequestException as error:
        why = "refused or unreachable" if "NewConnection" in repr(error) else "broken off"
        raise _Unavailable(why, True) from None
    except ValueError:
        raise _Unavailable("content with another SHA-256", False) from None
    return target


def _http(url: str, output_file: object, caller: object) -> None:
    """pooch's HTTP transfer, with a progress bar on a terminal; a web page is no data."""
    pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=_TIMEOUT)(url, output_file, caller)
    with open(str(output_file), "rb") as stream:
        if stream.read(64).lstrip()[:1] == b"<":
            raise _Unavailable("a web page instead of data", False)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
