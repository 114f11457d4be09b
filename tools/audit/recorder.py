"""Runs a stage and writes down what it touched: ``python recorder.py RECORD MODULE``.

It runs in a process of its own, imports nothing of the project, and sees what Python itself opens.
What a library opens in C stays unseen: HDF5 files by name, TensorFlow's own readers.
"""

import builtins
import json
import os
import re
import runpy
import sys
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = f"{os.path.realpath(Path.cwd())}{os.sep}"
SKIPPED = re.compile(r"(^|/)(\.[^/]*|__pycache__|site-packages)(/|$)")  # .venv, .git, .checkpoints
TEMPORARY = re.compile(
    r"(^|/)\.([^/]+?)\.[0-9a-f]+(?:\.old)?\.tmp(?=/|$)"
)  # of stages.lib.core.files
CONFIG = "stages/lib/core/config.py"  # reads the files of parameters; that is recorded key by key

FOUND: dict[str, set[Any]] = {
    name: set() for name in ("read", "written", "params", "modules", "libraries")
}


def inside(path: object) -> str:
    """The path relative to the top folder; empty if it lies elsewhere or is of no interest."""
    if not isinstance(path, str | bytes | os.PathLike):
        return ""
    full = Path(os.fsdecode(path))
    text = os.path.normpath(full if full.is_absolute() else Path(ROOT) / full)
    if not text.startswith(ROOT):
        return ""
    relative = TEMPORARY.sub(r"\1\2", text[len(ROOT) :].replace(os.sep, "/"))
    return "" if SKIPPED.search(relative) else relative


def opener(frame: FrameType | None) -> str:
    """The innermost file of the repository that is being run."""
    while frame is not None:
        if frame.f_code.co_filename != __file__ and (path := inside(frame.f_code.co_filename)):
            return path
        frame = frame.f_back
    return ""


def hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Takes note of one of Python's audit events."""
    if event == "stages.param":
        FOUND["params"].add(arguments)
    elif event == "open":
        path = inside(arguments[0])
        # Code is recorded when it is imported; core.stage reads all of it. A bare name given to
        # os.open is one of shutil.rmtree's, relative to a folder that the event does not tell.
        bare = arguments[1] is None and path == arguments[0]
        if path and not bare and not path.endswith((".py", ".pyc")):
            mode, flags = str(arguments[1] or ""), int(arguments[2] or 0)
            write = set(mode) & set("wxa+") or flags & (os.O_WRONLY | os.O_RDWR)
            if write or opener(sys._getframe(1)) != CONFIG:
                FOUND["written" if write else "read"].add(path)
    elif event in ("os.listdir", "os.scandir"):
        path = inside(arguments[0])
        if path and path.partition("/")[0] != "stages":  # Python lists these to find modules
            FOUND["read"].add(path)
    elif event == "os.rename" and (path := inside(arguments[1])):
        FOUND["written"].add(path)


def noting_importer(original: Any) -> Any:
    """``__import__`` that takes note of every import and of the file that it is in."""

    def imported(name: str, *rest: Any, **named: Any) -> Any:
        given = dict(zip(("globals", "locals", "fromlist", "level"), rest, strict=False)) | named
        if not given.get("level"):
            importer = (given.get("globals") or {}).get("__file__") or ""
            if importer != __file__:  # as C code names the function that it was called from
                FOUND["libraries"].add((name.partition(".")[0], importer))
        return original(name, *rest, **named)

    return imported


def main(record: str, module: str) -> None:
    """Runs a module as a program and writes the record, however it ends."""
    sys.path[0] = str(Path.cwd())
    sys.argv = [module]
    builtins.__import__ = noting_importer(builtins.__import__)
    sys.addaudithook(hook)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        loaded = [getattr(value, "__file__", None) for value in list(sys.modules.values())]
        FOUND["modules"] |= {inside(file) for file in loaded if file and file != __file__} - {""}
        FOUND["libraries"] = {name for name, file in FOUND["libraries"] if inside(file)}
        FOUND["modules"].add(f"{module.replace('.', '/')}.py")
        lists = {name: sorted(values) for name, values in FOUND.items()}
        Path(record).write_text(json.dumps(lists), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
