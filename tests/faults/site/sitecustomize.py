"""Lets a fault strike a stage, as the environment says.

Python imports this at its start where the folder is in PYTHONPATH; so it reaches what DVC runs.
STAGES_FAULT names a stage and an operation on files, as in ``train:write:7:dies``. IMPORT_FAULT
names a module whose import it strikes, as in ``interrupt:keras``: ``interrupt`` is Ctrl+C,
``swallow`` is so too, and C code makes another error of it, as NumPy's does; ``unreadable`` and
``damaged`` are what a disk says; ``list:FILE`` strikes nothing and writes the names of all modules
that are asked for.
"""

import errno
import os
import signal
import sys


class _Finder:
    """Sees every import first, and finds nothing."""

    def __init__(self, mode: str, target: str) -> None:
        self.mode, self.target = mode, target
        self.names: list[str] = []

    def find_spec(self, name: str, *_: object) -> None:
        """Strikes when the module is the one."""
        if self.mode == "list":
            self.names.append(name)
            with open(self.target, "a", encoding="utf-8") as stream:  # noqa: PTH123 as early as can be
                stream.write(f"{name}\n")
        elif name == self.target:
            if self.mode == "interrupt":
                signal.raise_signal(signal.SIGINT)
            if self.mode == "swallow":
                try:
                    signal.raise_signal(signal.SIGINT)
                except KeyboardInterrupt:
                    raise ImportError("no such module") from None
            number = {"unreadable": errno.EACCES, "damaged": errno.EIO}[self.mode]
            raise OSError(number, os.strerror(number), f"{name.replace('.', '/')}.py")


if os.environ.get("STAGES_FAULT"):
    _stage, _kind, _number, _mode = os.environ["STAGES_FAULT"].split(":")
    if sys.orig_argv[-2:] == ["-m", f"stages.{_stage}"]:
        from tests.faults.injection import Fault, install

        install(Fault(_kind, int(_number), _mode))
if os.environ.get("IMPORT_FAULT"):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is deaf
    sys.meta_path.insert(0, _Finder(*os.environ["IMPORT_FAULT"].split(":", 1)))
