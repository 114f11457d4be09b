"""How a stage runs: settings first, then the work, then a check that nothing moved meanwhile."""

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from stages.lib import files
from stages.lib.errors import UserError

T = TypeVar("T")


def run(read: Callable[[], T], main: Callable[[T], None], inputs: Sequence[Path] = ()) -> None:
    """Runs ``main(read())`` and ends the process with status 1 on an error of the user's.

    DVC hashes code, parameters and inputs when a stage has ended. Were they edited while it ran,
    the result of the old ones would be recorded under the name of the new ones. So they are
    compared here, before and after; if they differ the stage fails and DVC records nothing.

    Args:
        read: Gives the settings of the stage, the same ones whenever the files are the same.
        main: Does the work, reads the inputs and writes the outputs.
        inputs: The data files that ``main`` reads.
    """
    try:
        code, settings, stamps = _sources(), read(), _stamps(inputs)
        main(settings)
        if read() != settings:
            raise _moved("The configuration")
        if _stamps(inputs) != stamps:
            raise _moved("An input file")
        if any(code.get(path) != digest for path, digest in _loaded(_sources()).items()):
            raise _moved("The code")
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or 'input or output'}: {error.strerror or error}.\nMend that and run again.")
    except KeyboardInterrupt:
        print("\nInterrupted; nothing half-made was left behind.", file=sys.stderr, flush=True)
        os._exit(130)  # without waiting for TensorFlow's threads


def key(settings: object, inputs: Sequence[Path]) -> str:
    """A digest of everything that the result of the running stage depends on.

    Args:
        settings: A dataclass of plain values.
        inputs: The data files that the stage reads.
    """
    parts = [repr(settings), *(files.sha256(path) for path in inputs)]
    parts += [f"{path.name} {digest}" for path, digest in _loaded(_sources()).items()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _fail(message: str) -> None:
    print(f"ERROR: {message}", file=sys.stderr)
    raise SystemExit(1)


def _moved(what: str) -> UserError:
    return UserError(
        f"{what} of this stage was changed while it ran; its result belongs to neither.\n"
        "Run `dvc repro` again."
    )


def _sources() -> dict[Path, str]:
    """A digest of every source file of the pipeline."""
    folder = Path(__file__).parents[1]
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*.py"))
    }


def _loaded(sources: dict[Path, str]) -> dict[Path, str]:
    """The part of ``sources`` that this process imported."""
    modules = list(sys.modules.values())
    files = {Path(file) for module in modules if (file := getattr(module, "__file__", None))}
    return {path: digest for path, digest in sources.items() if path in files}


def _stamps(inputs: Sequence[Path]) -> list[tuple[int, int] | None]:
    """Size and time of change of each input, or None where it is missing."""
    return [
        (path.stat().st_size, path.stat().st_mtime_ns) if path.exists() else None for path in inputs
    ]
