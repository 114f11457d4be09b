"""One stage in the room of the hermetic run: ``python room.py RECORD apart|here MODULE ...``.

Written to RECORD when it ends: what it touched, the modules of other origin that were loaded, and
what was opened or listed elsewhere than in the room, in Python's and in the system's folders. It
is run as a script, so that nothing of the repository but the room is on the path.
"""

import json
import os
import runpy
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOM = os.path.realpath(Path.cwd())
SYSTEM = ("/proc", "/dev", "/sys", "/etc", "/usr", "/lib", "/System", "/Library", "/nix")
EVENTS = {  # of what is looked into, and whether it is there
    "open": os.path.isfile,
    "os.link": os.path.isfile,
    "os.rename": os.path.isfile,
    "os.symlink": os.path.isfile,
    "sqlite3.connect": os.path.isfile,
    "os.listdir": os.path.isdir,
    "os.scandir": os.path.isdir,
}
SURROUNDINGS = ("HOME", "PYTHONUSERBASE", "SYSTEMROOT", "DATASET_CACHE", "DATASET_MIRROR")


def watch() -> list[str]:
    """The list that grows by what is opened outside."""
    folders = [ROOM, sys.prefix, sys.base_prefix, str(Path(os.__file__).parent), *SYSTEM]
    folders += [os.environ[name] for name in SURROUNDINGS if name in os.environ]
    known = tuple({way + os.sep for path in folders for way in (path, os.path.realpath(path))})
    outside: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            within = f"{path}{os.sep}".startswith(known)
            if not within and EVENTS[event](path) and path not in outside:
                outside.append(path)

    sys.addaudithook(hook)
    return outside


class Backwards:
    """The entries of a folder, by their names from Z to A."""

    def __init__(self, entries: Iterable[os.DirEntry[Any]]) -> None:
        self._entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

    def __iter__(self) -> "Backwards":
        return self

    def __next__(self) -> os.DirEntry[Any]:
        return next(self._entries)

    def __enter__(self) -> "Backwards":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        """Does nothing: all was read."""


def rearrange(apart: bool) -> None:
    """Lists folders backwards, and gives the host another name where it is a host of its own."""
    listdir, scandir = os.listdir, os.scandir
    os.listdir = lambda path=".": sorted(listdir(path), reverse=True)  # type: ignore[assignment]
    os.scandir = lambda path=".": Backwards(scandir(path))  # type: ignore[assignment]
    if apart:
        socket.sethostname("room")


def main(record: str, place: str, module: str, *arguments: str) -> None:
    """Runs the stage."""
    sys.orig_argv[:] = [sys.executable, "-m", module]
    sys.argv[1:] = arguments
    sys.path[0] = ROOM
    outside = watch()
    rearrange(place == "apart")
    from stages.lib.core import config, enforcement

    # A section is known though its stage is not in the room
    config._check_sections = lambda content: None  # noqa: ARG005 the name is part of its type
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        own = (ROOM, os.environ["HOME"], __file__)
        seen = {
            "touched": [touch.file or touch.name for touch in enforcement.touched()],
            "modules": [file for file in files if file and not file.startswith(own)],
            "outside": list(outside),
        }
        with enforcement.unwatched():
            Path(record).write_text(json.dumps(seen), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
