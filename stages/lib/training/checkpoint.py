"""What an interrupted training keeps to go on from its last finished epoch.

A checkpoint is named by a key of everything that the result depends on, so that one of another
configuration is never taken for one's own. It is no output of the pipeline and not in Git.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from stages.lib.core import files

FOLDER = Path(".checkpoints")

History = list[dict[str, float]]  # one row an epoch


class Variable(Protocol):
    """What a state consists of, as Keras's variables are."""

    def numpy(self) -> npt.NDArray[Any]:
        """The value, of a fixed shape and type."""
        ...

    def assign(self, value: npt.NDArray[Any], /) -> object:
        """Sets the value."""
        ...


class Checkpoint:
    """The kept state of the training that a key names.

    Args:
        key: A digest of configuration, code and data.
        kept: Whether it is kept at all; without it a training always starts anew.
    """

    def __init__(self, key: str, kept: bool = True) -> None:
        self._kept = kept
        self._path = FOLDER / f"{key}.npz"

    def save(self, variables: Sequence[Variable], history: History) -> None:
        """Keeps the state after an epoch, in place of the one before when it is whole on disk."""
        if not self._kept:
            return
        arrays = {f"variable_{at}": _plain(variable) for at, variable in enumerate(variables)}
        with files.replacing(self._path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, history=np.array(json.dumps(history)), allow_pickle=False, **arrays)
            stream.flush()
            os.fsync(stream.fileno())

    def restore(self, variables: Sequence[Variable]) -> History:
        """Sets the variables to the kept state and returns its history; none kept, none returned.

        A state that is damaged or of another configuration is left alone, with a word about it.
        """
        if not self._kept:
            return []
        if not self._path.exists():
            others = [path.name for path in FOLDER.glob("*.npz")]
            if others:
                _note(f"{', '.join(others)}: of another configuration, code or data; not used.")
            return []
        try:
            arrays, history = self._read(variables)
        except Exception as error:  # whatever zipfile, zlib, NumPy and json say to damaged bytes
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            _note(f"{self._path.name}: damaged ({reason}); not used, training starts anew.")
            return []
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array.view(variable.numpy().dtype))
        print(f"Going on after epoch {len(history)}, where an earlier training was interrupted.")
        return history

    def _read(self, variables: Sequence[Variable]) -> tuple[list[npt.NDArray[Any]], History]:
        """The kept values of ``variables``, of their shapes and types, and the history."""
        with self._path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            arrays = [content[f"variable_{at}"] for at in range(len(variables))]
            history: History = json.loads(str(content["history"]))
        for variable, array in zip(variables, arrays, strict=True):
            expected = _plain(variable)
            if array.shape != expected.shape or array.dtype != expected.dtype:
                raise ValueError(
                    f"{array.dtype} {array.shape} for {expected.dtype} {expected.shape}"
                )
        if not history or not all(isinstance(row, dict) for row in history):
            raise ValueError("no history")
        return arrays, history

    def remove(self) -> None:
        """Removes the kept state, once the outputs of the training are in place."""
        for path in FOLDER.glob(f"*{self._path.name}*"):  # half a file of a killed run, too
            path.unlink()
        if FOLDER.is_dir() and not any(FOLDER.iterdir()):
            FOLDER.rmdir()


def _plain(variable: Variable) -> npt.NDArray[Any]:
    """The value of a variable; of a type that NumPy's files cannot state, as bfloat16, its bits."""
    value = variable.numpy()
    return value if value.dtype.isbuiltin == 1 else value.view(f"u{value.dtype.itemsize}")


def _note(text: str) -> None:
    print(f"{FOLDER.as_posix()}/{text}", file=sys.stderr, flush=True)
